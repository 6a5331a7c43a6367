"""CPU time and memory of one encoder at one length, in a process of its own.

    python -m benchmarks.systems.cost FIELDS LENGTH ROUNDS

``FIELDS`` are those of ``EncoderConfig`` as JSON. Prints CPU time [us] and memory beyond that of
the loaded model [bytes], both per token, as JSON. The encoder is untrained, in float32, on one
thread, in packed inference, as the server runs it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.common.machine import ROOT
from benchmarks.common.memory import forget_peak, memory_mb
from osa.model import EmbeddingModel, EncoderConfig
from osa.model.inference.precision import use_dtype

TOKENS = 2048
"""Least number of tokens of a batch: short sequences are many."""
VOCABULARY = 1000


def measure(fields: dict[str, object], length: int, rounds: int) -> dict[str, float]:
    """Median CPU time and memory per token."""
    torch.set_num_threads(1)
    config = EncoderConfig.from_dict({**fields, "vocab_size": VOCABULARY})
    generator = torch.Generator().manual_seed(0)
    model = use_dtype(EmbeddingModel(config, None, generator).eval(), "float32")
    count = max(1, TOKENS // length)
    ids = torch.randint(VOCABULARY, (count, length), generator=generator).tolist()
    with torch.inference_mode():
        model.embed_ids([ids[0][:8]])
        before = memory_mb("VmRSS")
        forget_peak()
        times = []
        for _ in range(rounds):
            started = time.process_time()
            model.embed_ids(ids)
            times.append(time.process_time() - started)
    tokens = count * length
    return {
        "us": 1e6 * statistics.median(times) / tokens,
        "bytes": max(0.0, 1e6 * (memory_mb("VmHWM") - before)) / tokens,
    }


def run(fields: dict[str, object], length: int, rounds: int, limit_s: float) -> dict[str, float]:
    """``measure`` in a process of its own; nothing where that takes too long.

    Args:
        fields: Of ``EncoderConfig``, without inputs.
        length: Of every sequence [tokens].
        rounds: Calls that are timed.
        limit_s: Longest time of the process [s].
    """
    command = [sys.executable, "-m", "benchmarks.systems.cost", json.dumps(fields)]
    try:
        done = subprocess.run(
            [*command, str(length), str(rounds)],
            capture_output=True, text=True, check=True, cwd=ROOT, timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
