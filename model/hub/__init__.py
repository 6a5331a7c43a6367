"""Directories of transformers and sentence-transformers, read as they lie.

``read_model`` makes a ``Checkpoint`` of one, with the weights by our names: from there on it is
a model as any other, served, exported, embedded with. ``unsupported`` says why not. The reader is
imported at the first call, so that models of our own do not pay for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osa.model.checkpoint import Checkpoint


def read_model(directory: Path) -> Checkpoint:
    """See ``osa.model.hub.reader.read_model``."""
    from osa.model.hub import reader

    return reader.read_model(directory)


def unsupported(directory: Path) -> str | None:
    """See ``osa.model.hub.reader.unsupported``."""
    from osa.model.hub import reader

    return reader.unsupported(directory)
