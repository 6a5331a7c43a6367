"""CPU time of the packaged architecture by length, with OSA and with softmax attention.

    python -m benchmarks.encoder.lengths [--repeats 7]

Both encoders have the same weights shapes and run interleaved in one process; the table gives
medians of CPU time a token, the ratio between the two, and the time a token relative to that of
511 tokens. About 4096 tokens run at once unless one sequence is longer.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time

import torch

from osa.model import EmbeddingModel
from osa.model.varlen import cu_seqlens_of

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


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lengths", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    osa = EmbeddingModel.from_pretrained()
    softmax = EmbeddingModel(dataclasses.replace(osa.config, mixer="softmax")).eval()
    times: dict[tuple[str, int], list[float]] = {}
    for repeat in range(options.repeats + 1):
        for length in LENGTHS:
            for name, model in (("osa", osa), ("softmax", softmax)):
                if name == "softmax" and length > SOFTMAX_LIMIT:
                    continue
                elapsed = seconds(model, length)
                if repeat:  # the first round warms up
                    times.setdefault((name, length), []).append(elapsed)
    median = {key: statistics.median(values) for key, values in times.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print("| tokens | OSA [us/token] | softmax [us/token] | softmax / OSA | OSA / OSA at 511 |")
    print("|---|---|---|---|---|")
    for length in LENGTHS:
        own, reference = median["osa", length], median["osa", 511]
        other = median.get(("softmax", length))
        peer = "-" if other is None else f"{other * 1e6:.0f}"
        ratio = "-" if other is None else f"{other / own:.2f}"
        print(f"| {length} | {own * 1e6:.0f} | {peer} | {ratio} | {own / reference:.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
