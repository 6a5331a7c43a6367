"""Memory and CPU time of one document through the Python API, by length; one process a length.

    python -m benchmarks.streaming.lengths TOKENS [--dtype bfloat16] [--hidden-only] [--directory D]

Prints one JSON object, and on standard error how far it is. The CPU time of texts of 1,000 tokens
is measured before and after, in the same process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.memory import memory_mb
from benchmarks.common.report import progress
from osa.model import EmbeddingModel
from osa.model.inference.precision import use_dtype
from osa.model.streaming.passes import StreamOptions

SHORT, TEXTS = 1000, 20
"""Tokens of the texts that are compared with, and how many are one measurement."""
TOLD_S = 10.0
"""Between two messages of how far a document is [s]."""


def short_cpu_s(model: EmbeddingModel, ids: np.ndarray) -> float:
    """CPU time per token of short texts, one at a time [s]."""
    rows = [ids[place * SHORT : (place + 1) * SHORT].tolist() for place in range(TEXTS)]
    began = time.process_time()
    with torch.inference_mode():
        for row in rows:
            model.embed_ids([row])
    return (time.process_time() - began) / (SHORT * TEXTS)


def encode(model: EmbeddingModel, tokens: int, options: StreamOptions, idle_mb: float) -> None:
    """Encode a document of random ids, and tell how far it is.

    Args:
        model: Encodes it.
        tokens: Of the document.
        options: Disk.
        idle_mb: Memory of the process before [MB].
    """
    generator = np.random.default_rng(1)

    def pieces() -> Iterator[np.ndarray]:
        for first in range(0, tokens, 4096):
            yield generator.integers(1000, model.config.num_ids, min(4096, tokens - first))

    began = told = time.monotonic()
    for step in model.stream(pieces(), options=options):
        now = time.monotonic()
        if now - told >= TOLD_S:
            told, share = now, step.done / (step.passes * tokens)
            left_s = (now - began) * (1 - share) / max(share, 1e-9)
            above = memory_mb("VmRSS") - idle_mb
            progress(
                f"{tokens:,} tokens: {share:.1%}, {above:.0f} MB above idle, {left_s:.0f} s left"
            )


def measure(tokens: int, dtype: str, keep_states: bool, directory: Path | None) -> dict[str, float]:
    """Peak memory above the idle process [MB], CPU and wall time per token [s].

    Args:
        tokens: Of the document.
        dtype: Of products.
        keep_states: As of ``StreamOptions``.
        directory: As there.
    """
    model = use_dtype(EmbeddingModel.from_pretrained(), dtype)
    short = np.random.default_rng(0).integers(1000, model.config.num_ids, SHORT * TEXTS)
    short_cpu_s(model, short)
    before, idle = short_cpu_s(model, short), memory_mb("VmRSS")
    options = StreamOptions(keep_states=keep_states, directory=directory)
    cpu, wall = time.process_time(), time.perf_counter()
    encode(model, tokens, options, idle)
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
    parser.add_argument("--directory", type=Path, help="of states, instead of the temporary one")
    options = parser.parse_args()
    keep = not options.hidden_only
    print(json.dumps(measure(options.tokens, options.dtype, keep, options.directory)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
