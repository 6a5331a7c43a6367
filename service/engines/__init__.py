"""Engines: each runs one model on packed batches behind one protocol."""

from osa.service.engines.artifact import ArtifactEngine
from osa.service.engines.base import Engine, EngineInfo, EngineOutput
from osa.service.engines.compiled import CompiledEngine
from osa.service.engines.eager import EagerEngine
from osa.service.engines.selection import Selection, select_engine

__all__ = [
    "ArtifactEngine",
    "CompiledEngine",
    "EagerEngine",
    "Engine",
    "EngineInfo",
    "EngineOutput",
    "Selection",
    "select_engine",
]
