"""This project's server with an engine that only sleeps: its CPU time is HTTP and batching.

python -m benchmarks.serving.ours.sleeping_engine --model DIR --port PORT --ms-per-text 2.5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Self

import numpy as np

from osa.model.sequences import InputRows
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import Details, Engine, EngineInfo, EngineOutput
from osa.service.engines.selection import select_engine
from osa.service.model_settings import ModelSettings
from osa.service.observability.logs import configure_logging
from osa.service.server.app import create_service
from osa.service.server.uvicorn_server import bind, serve
from osa.service.settings import load_settings


class SleepingEngine:
    """Takes as long as a real engine, and returns random unit vectors."""

    def __init__(self, engine: Engine, s_per_text: float) -> None:
        """Replace ``engine``; a text takes ``s_per_text`` [s]."""
        self._engine, self._s_per_text = engine, s_per_text
        vectors = np.random.default_rng(0).standard_normal((512, engine.info.dimensions[0]))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = unit.astype(np.float32)

    @property
    def info(self) -> EngineInfo:
        """That of the replaced engine."""
        return self._engine.info

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer."""
        return self._engine.tokenizer

    @classmethod
    def open(cls, path: Path | None, settings: ModelSettings) -> Self:
        """Around the engine of ``path``, without a pause."""
        return cls(select_engine(settings.model_copy(update={"path": path})).engine, 0.0)

    def warm_up(self) -> None:
        """Nothing to do."""

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        """Sleep, then return one unit vector per sequence [n, E]."""
        time.sleep(self._s_per_text * len(sequences))
        rows = np.arange(len(sequences)) % len(self._vectors)
        return EngineOutput(self._vectors[rows], np.ones(len(sequences), dtype=np.float32))


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="sleeping_engine", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ms-per-text", type=float, required=True)
    options = parser.parse_args()
    overrides = {
        "server.host": "127.0.0.1",
        "server.port": options.port,
        "model.path": options.model,
    }
    settings = load_settings(overrides)
    configure_logging(settings.log)
    engine = SleepingEngine(select_engine(settings.model).engine, options.ms_per_text / 1000)
    with bind(settings.server) as listener:
        serve(create_service(settings, engine), settings, listener)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
