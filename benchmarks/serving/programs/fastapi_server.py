"""MiniLM on FastAPI alone: no batches, one thread per request."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI

from benchmarks.serving.programs.minilm import TextEncoder, read_options


def main() -> None:
    """Serve until the process is ended."""
    options = read_options()
    model = TextEncoder("torch", options.model, options.dtype)
    model.encode(["warm up"])
    app = FastAPI()

    @app.post("/embed")
    def embed(body: dict[str, Any]) -> dict[str, list[float]]:
        return {"embedding": model.encode([body["text"]])[0].tolist()}

    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
