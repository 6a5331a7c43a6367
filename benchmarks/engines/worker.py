"""One encoder in a process: reads batches from standard input, answers with their CPU time.

    python -m benchmarks.engines.worker RUNTIME DTYPE MODEL

A line is JSON, ``{"lengths": [...], "calls": n}``; the answer is the CPU time of one call [s] over
all threads of the process, the mean of n. The first answer is an empty line: it is ready.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

Encode = Callable[[Sequence[int]], Callable[[], object]]
"""From lengths [tokens] to a call that embeds such a batch."""
LEAST_ID, MOST_ID = 1000, 30_000


def _ids(lengths: Sequence[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(LEAST_ID, MOST_ID, length) for length in lengths]


def _load_ours(dtype: str, model: str) -> Encode:
    import torch

    from osa.model import EmbeddingModel
    from osa.model.inference.precision import use_dtype

    encoder = use_dtype(EmbeddingModel.from_pretrained(model), dtype)

    def prepare(lengths: Sequence[int]) -> Callable[[], object]:
        rows = [row.tolist() for row in _ids(lengths)]

        def call() -> object:
            with torch.inference_mode():
                return encoder.embed_ids(rows).embeddings.numpy()

        return call

    return prepare


def _load_peer(runtime: str, dtype: str, model: str) -> Encode:
    from benchmarks.serving.programs.minilm import INPUTS, load_encoder

    encoder = load_encoder(runtime, model, dtype)

    def prepare(lengths: Sequence[int]) -> Callable[[], object]:
        ids = np.zeros((len(lengths), max(lengths)), np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(_ids(lengths)):
            ids[row, : len(found)], mask[row, : len(found)] = found, 1
        batch = dict(zip(INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))
        return lambda: encoder.run(batch)

    return prepare


def main() -> None:
    """Serve until standard input ends."""
    runtime, dtype, model = sys.argv[1:]
    if runtime in ("osa", "minilm"):
        prepare = _load_ours(dtype, model)
    else:
        prepare = _load_peer(runtime, dtype, model)
    print(flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        call = prepare(asked["lengths"])
        call()
        began = time.process_time()
        for _ in range(asked["calls"]):
            call()
        print((time.process_time() - began) / asked["calls"], flush=True)


if __name__ == "__main__":
    main()
