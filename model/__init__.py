"""Orthogonal Self-Attention: the operator, encoders built on it, and their weights.

Layers, lowest first: ``functional`` (pure maths) -> ``ops`` (the torch operator) -> ``mixers``
and ``layers`` -> ``encoder`` -> ``embedder`` (the graph that ships) -> ``checkpoint``.
"""

from osa.model.processor import prepare as _prepare

_prepare()  # before anything imports torch

from osa.model.config import EncoderConfig
from osa.model.embedder import EmbeddingModel
from osa.model.encoder import Encoder
from osa.model.errors import CheckpointError, ConfigError, InputError, OsaError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EmbeddingModel",
    "Encoder",
    "EncoderConfig",
    "InputError",
    "OsaError",
]
