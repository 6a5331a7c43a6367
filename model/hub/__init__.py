"""Directories of transformers and sentence-transformers, read as they lie.

``read_model`` makes a ``Checkpoint`` of one, with the weights by our names: from there on it is
a model as any other, served, exported, embedded with. ``unsupported`` says why not.
"""

from __future__ import annotations

from osa.model.hub.reader import read_model, unsupported

__all__ = ["read_model", "unsupported"]
