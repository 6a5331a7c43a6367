"""MiniLM behind LitServe: dynamic batches, one process a worker."""

from typing import Any

import litserve
import numpy as np

from benchmarks.serving.programs.minilm import MiniLM, read_options


class EmbedAPI(litserve.LitAPI):  # type: ignore[misc]
    """One text a request in, one vector out."""

    def __init__(self, model: str, dtype: str, batch: int, wait_s: float) -> None:
        """Remember what ``setup`` loads, in the worker's process."""
        super().__init__(max_batch_size=batch, batch_timeout=wait_s)
        self._path, self._dtype = model, dtype

    def setup(self, device: str) -> None:
        """Load the model."""
        self._model = MiniLM(self._path, self._dtype)
        self._model.encode(["warm up"])

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of a request."""
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts of a batch, as they are."""
        return inputs

    def predict(self, x: list[str]) -> np.ndarray:
        """Vectors of a batch."""
        return self._model.encode(x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One vector a request."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        """A vector as JSON."""
        return {"embedding": output.tolist()}


def main() -> None:
    """Serve."""
    options = read_options()
    api = EmbedAPI(options.model, options.dtype, options.batch, options.wait_ms / 1000)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=options.workers, track_requests=False
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
