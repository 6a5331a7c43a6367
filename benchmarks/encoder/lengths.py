"""CPU time of the packaged architecture by length, with OSA and with softmax attention.

    python -m benchmarks.encoder.lengths [--repeats 7] [--output FILE]

Both encoders have the same weights shapes and run interleaved in one process; the table gives
medians of CPU time a token, the ratio between the two, and the time a token relative to that of
511 tokens. About 4096 tokens run at once unless one sequence is longer. ``--output`` also writes
them as JSON, which ``benchmarks.encoder.plot`` draws.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks.kernels.machine import read_machine
from osa.model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of

LENGTHS = (8, 32, 128, 511, 2048, 8192, 20000)
BATCH_TOKENS = 4096
SOFTMAX_LIMIT = 8192
"""Beyond it softmax takes too long to be repeated."""


@torch.inference_mode()
def seconds(model: EmbeddingModel, length: int) -> float:
    """CPU time of one batch of sequences of ``length`` tokens, a token [s]."""
    count = max(1, BATCH_TOKENS // length)
    ids = torch.randint(1000, 30000, (1, count * length))
    offsets = cu_seqlens_of([length] * count)
    started = time.process_time()
    model(ids, cu_seqlens=offsets)
    return (time.process_time() - started) / (count * length)


def measure(repeats: int) -> dict[str, dict[int, float]]:
    """Medians of CPU time a token by mixer and length [s]; the first round warms up."""
    osa = EmbeddingModel.from_pretrained()
    softmax = EmbeddingModel(dataclasses.replace(osa.config, mixer="softmax")).eval()
    times: dict[str, dict[int, list[float]]] = {"osa": {}, "softmax": {}}
    for repeat in range(repeats + 1):
        print(f"round {repeat} of {repeats}", file=sys.stderr)
        for length in LENGTHS:
            for name, model in (("osa", osa), ("softmax", softmax)):
                if name == "softmax" and length > SOFTMAX_LIMIT:
                    continue
                elapsed = seconds(model, length)
                if repeat:
                    times[name].setdefault(length, []).append(elapsed)
    return {
        name: {length: statistics.median(values) for length, values in found.items()}
        for name, found in times.items()
    }


def table(times: dict[str, dict[int, float]]) -> str:
    """The medians in Markdown."""
    lines = ["| tokens | OSA [us/token] | softmax [us/token] | softmax / OSA | OSA / OSA at 511 |"]
    lines.append("|---|---|---|---|---|")
    for length, own in times["osa"].items():
        other = times["softmax"].get(length)
        peer = "-" if other is None else f"{other * 1e6:.0f}"
        ratio = "-" if other is None else f"{other / own:.2f}"
        growth = own / times["osa"][511]
        lines.append(f"| {length} | {own * 1e6:.0f} | {peer} | {ratio} | {growth:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lengths", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write")
    options = parser.parse_args()
    machine = read_machine("cpu")
    times = measure(options.repeats)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print(table(times))
    if options.output is not None:
        record = {"machine": machine, "seconds_per_token": times}
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
