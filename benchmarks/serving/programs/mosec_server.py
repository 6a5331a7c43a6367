"""MiniLM on mosec: dynamic batches, one process per worker."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.serving.programs.minilm import TextEncoder, load_encoder, read_options

MODEL, DTYPE, RUNTIME = "SERVING_MODEL", "SERVING_DTYPE", "SERVING_RUNTIME"
"""Environment variables that tell the worker processes what to load."""
LIMIT_MS = 60_000
"""Time limit of a request [ms]; at the default of 3 s, requests behind full batches fail."""


class Embed(Worker):  # type: ignore[misc]
    """One text per request, one vector per answer."""

    def __init__(self) -> None:
        """Load the model."""
        self._model = TextEncoder(os.environ[RUNTIME], os.environ[MODEL], os.environ[DTYPE])
        self._model.encode(["warm up"])

    def forward(self, data: list[dict[str, Any]]) -> list[np.ndarray]:
        """Unit vectors of a batch, each [384]."""
        return list(self._model.encode([one["text"] for one in data]))

    def serialize(self, data: np.ndarray) -> bytes:
        """A vector as JSON."""
        return json.dumps({"embedding": data.tolist()}).encode()


def main() -> None:
    """Serve until the process is ended; mosec reads its address from ``sys.argv``."""
    options = read_options()
    os.environ[MODEL], os.environ[DTYPE] = options.model, options.dtype
    os.environ[RUNTIME] = options.runtime
    if options.runtime != "torch":  # files are written once, before the workers start
        load_encoder(options.runtime, options.model, options.dtype)
    address = ["--address", "127.0.0.1", "--port", str(options.port)]
    sys.argv = [sys.argv[0], *address, "--timeout", str(LIMIT_MS)]
    server = Server()
    server.append_worker(
        Embed,
        num=options.workers,
        max_batch_size=options.batch,
        max_wait_time=options.wait_ms,
    )
    server.run()


if __name__ == "__main__":
    main()
