"""MiniLM on Triton by pytriton: Triton's HTTP server and dynamic batcher, the model in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.programs.minilm import TextEncoder, read_options


def main() -> None:
    """Serve until the process is ended."""
    options = read_options()
    model = TextEncoder("torch", options.model, options.dtype)
    model.encode(["warm up"])

    def make_instance() -> Callable[..., Any]:
        @batch  # type: ignore[untyped-decorator]
        def embed(text: np.ndarray) -> dict[str, np.ndarray]:
            return {"embedding": model.encode([row.decode() for row in text[:, 0]])}

        found: Callable[..., Any] = embed
        return found

    port = options.port
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="minilm",
            infer_func=[make_instance() for _ in range(options.workers)],
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(384,))],
            config=ModelConfig(
                max_batch_size=options.batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=options.wait_ms * 1000),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
