"""MiniLM on LitServe: dynamic batches, one process per worker."""

from typing import Any

import litserve
import numpy as np

from benchmarks.serving.programs.minilm import TextEncoder, read_options


class EmbedAPI(litserve.LitAPI):  # type: ignore[misc]
    """One text per request, one vector per answer."""

    def __init__(self, model: str, dtype: str, batch: int, wait_s: float) -> None:
        """Configure the batches; ``setup`` loads the model in the worker's process.

        Args:
            model: Folder of MiniLM's files.
            dtype: ``float32`` or ``bfloat16``.
            batch: Largest number of texts in a batch.
            wait_s: Longest wait for a batch to fill [s].
        """
        super().__init__(max_batch_size=batch, batch_timeout=wait_s)
        self._path, self._dtype = model, dtype

    def setup(self, device: str) -> None:
        """Load the model."""
        self._model = TextEncoder("torch", self._path, self._dtype)
        self._model.encode(["warm up"])

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of a request body."""
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        """The texts of a batch, unchanged."""
        return inputs

    def predict(self, x: list[str]) -> np.ndarray:
        """Unit vectors of a batch, float32 [n, 384]."""
        return self._model.encode(x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """The vector of each request [384]."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        """A vector as JSON."""
        return {"embedding": output.tolist()}


def main() -> None:
    """Serve until the process is ended."""
    options = read_options()
    api = EmbedAPI(options.model, options.dtype, options.batch, options.wait_ms / 1000)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=options.workers, track_requests=False
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
