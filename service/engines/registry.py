"""The engines by name: one entry each. An engine's module is imported when it is first used.

Light: settings and commands read the names without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from osa.export.formats import FORMATS

if TYPE_CHECKING:
    from osa.service.engines.base import Engine

CHECKPOINT = "checkpoint"
LIBRARY = "sentence-transformers"


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        name: In ``model.engine`` and ``/info``.
        runs: ``checkpoint``, ``sentence-transformers`` (what that library loads), or the name of an
            artifact format.
        module: Where its class is.
        attribute: The class, an ``Engine``.
    """

    name: str
    runs: str
    module: str
    attribute: str

    def load(self) -> type[Engine]:
        """The class, imported now."""
        return cast("type[Engine]", getattr(import_module(self.module), self.attribute))


_ENTRIES = (
    EngineEntry("eager", CHECKPOINT, "osa.service.engines.eager", "EagerEngine"),
    EngineEntry("compile", CHECKPOINT, "osa.service.engines.compiled", "CompiledEngine"),
    *(
        EngineEntry(entry.engine, entry.name, "osa.service.engines.artifact", "ArtifactEngine")
        for entry in FORMATS.values()
    ),
    EngineEntry(
        LIBRARY, LIBRARY, "osa.service.engines.sentence_transformers", "SentenceTransformersEngine"
    ),
)
ENGINES: dict[str, EngineEntry] = {entry.name: entry for entry in _ENTRIES}


def engines_for(what: str) -> list[EngineEntry]:
    """Engines that run a checkpoint, or artifacts of a format; the preferred one first."""
    return [entry for entry in ENGINES.values() if entry.runs == what]
