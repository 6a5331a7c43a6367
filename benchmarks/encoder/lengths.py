"""CPU time of the packaged architecture by length, with OSA and with softmax attention.

    python -m benchmarks.encoder.lengths [--repeats 7] [--quick] [--output FILE]

Both encoders have weights of the same shapes and run interleaved in one process. The table gives
medians of CPU time per token, the ratio of the two, and the time per token over that at 511 tokens.
A batch has about 4096 tokens unless one sequence is longer. ``--output`` also writes the medians as
JSON, which ``benchmarks.encoder.plot`` draws.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common.machine import read_machine
from benchmarks.common.report import progress
from benchmarks.common.tables import MISSING, table
from benchmarks.common.timing import median_cpu_s
from osa.model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of

LENGTHS = (8, 32, 128, 511, 2048, 8192, 20000)
BATCH_TOKENS = 4096
SOFTMAX_LIMIT = 8192
"""Longest sequence for softmax attention [tokens]; beyond, a call takes too long to repeat."""
QUICK_LIMIT = 2048
"""Longest sequence of ``--quick`` [tokens]."""


def batch_size(length: int) -> int:
    """Sequences of ``length`` tokens in a batch."""
    return max(1, BATCH_TOKENS // length)


@torch.inference_mode()
def embed_batch(model: EmbeddingModel, length: int) -> None:
    """Embed one packed batch of random sequences of ``length`` tokens."""
    count = batch_size(length)
    ids = torch.randint(1000, 30000, (1, count * length))
    model(ids, cu_seqlens=cu_seqlens_of([length] * count))


def measure(lengths: Sequence[int], repeats: int) -> dict[str, dict[int, float]]:
    """Median CPU time per token [s], by mixer and length."""
    osa = EmbeddingModel.from_pretrained()
    softmax = EmbeddingModel(dataclasses.replace(osa.config, mixer="softmax")).eval()
    runs = {
        (name, length): functools.partial(embed_batch, model, length)
        for length in lengths
        for name, model in (("osa", osa), ("softmax", softmax))
        if name == "osa" or length <= SOFTMAX_LIMIT
    }
    times: dict[str, dict[int, float]] = {"osa": {}, "softmax": {}}
    for (name, length), seconds in median_cpu_s(runs, repeats, progress).items():
        times[name][length] = seconds / (batch_size(length) * length)
    return times


def render(times: dict[str, dict[int, float]]) -> str:
    """The medians as a Markdown table."""
    rows = []
    for length, own in times["osa"].items():
        other = times["softmax"].get(length)
        peer = MISSING if other is None else f"{other * 1e6:.0f}"
        ratio = MISSING if other is None else f"{other / own:.2f}"
        growth = own / times["osa"][511]
        rows.append([str(length), f"{own * 1e6:.0f}", peer, ratio, f"{growth:.2f}"])
    headers = ["tokens", "OSA [us/token]", "softmax [us/token]", "softmax / OSA"]
    return table([*headers, "OSA / OSA at 511"], rows)


def main() -> int:
    """Measure and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lengths", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, help="default 7 (quick: 3)")
    parser.add_argument("--quick", action="store_true", help="lengths up to 2048, 3 rounds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write")
    options = parser.parse_args()
    machine = read_machine("cpu")
    lengths = [length for length in LENGTHS if length <= QUICK_LIMIT or not options.quick]
    times = measure(lengths, options.repeats or (3 if options.quick else 7))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print(render(times))
    if options.output is not None:
        record = {"machine": machine, "seconds_per_token": times}
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
