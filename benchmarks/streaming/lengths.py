"""Memory and CPU time of one document through ``encode_stream``, by length; one process a length.

    python -m benchmarks.streaming.lengths TOKENS [--dtype bfloat16] [--hidden-only]

Prints one JSON object. The CPU time of texts of 1,000 tokens is measured before and after, in the
same process.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from osa.model import EmbeddingModel
from osa.model.inference.precision import use_dtype
from osa.model.streaming.passes import StreamOptions

SHORT, TEXTS = 1000, 20
"""Tokens of the texts that are compared with, and how many are one measurement."""


def memory_mb(name: str) -> float:
    """A field of ``/proc/self/status`` [MB]: VmRSS, or its peak, VmHWM."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/self/status has no {name}")


def short_cpu_s(model: EmbeddingModel, ids: np.ndarray) -> float:
    """CPU time per token of short texts, one at a time [s]."""
    rows = [ids[place * SHORT : (place + 1) * SHORT].tolist() for place in range(TEXTS)]
    began = time.process_time()
    with torch.inference_mode():
        for row in rows:
            model.embed_ids([row])
    return (time.process_time() - began) / (SHORT * TEXTS)


def measure(tokens: int, dtype: str, keep_states: bool) -> dict[str, float]:
    """Peak memory above the idle process [MB], CPU and wall time per token [s].

    Args:
        tokens: Of the document.
        dtype: Of products.
        keep_states: As of ``StreamOptions``.
    """
    model = use_dtype(EmbeddingModel.from_pretrained(), dtype)
    generator = np.random.default_rng(0)
    most = model.config.num_ids
    short = generator.integers(1000, most, SHORT * TEXTS)
    short_cpu_s(model, short)
    pieces = (
        generator.integers(1000, most, min(4096, tokens - first))
        for first in range(0, tokens, 4096)
    )
    before, idle = short_cpu_s(model, short), memory_mb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    model.encode_stream(pieces, options=StreamOptions(keep_states=keep_states))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak, after = memory_mb("VmHWM"), short_cpu_s(model, short)
    return {
        "tokens": tokens,
        "idle_mb": idle,
        "above_mb": peak - idle,
        "cpu_s": cpu / tokens,
        "wall_s": wall / tokens,
        "short_cpu_s": (before + after) / 2,
    }


def main() -> int:
    """Measure one length; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lengths", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tokens", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--hidden-only", action="store_true", help="keep_states off")
    options = parser.parse_args()
    print(json.dumps(measure(options.tokens, options.dtype, not options.hidden_only)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
