"""Engines: each runs one model on packed batches behind one protocol."""

from osa.service.engines.base import Engine, EngineInfo, EngineOutput
from osa.service.engines.eager import EagerEngine

__all__ = ["EagerEngine", "Engine", "EngineInfo", "EngineOutput"]
