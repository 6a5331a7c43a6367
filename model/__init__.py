"""Orthogonal Self-Attention: the operator, encoders built on it, and their weights.

Layers, lowest first: ``functional`` (pure maths) -> ``ops`` (the torch operator) -> ``mixers``
and ``layers`` -> ``encoder`` -> ``embedder`` (the graph that ships) -> ``checkpoint``.

``EmbeddingModel`` and ``Encoder`` are imported when they are first asked for: a command that only
raises ``ConfigError`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError, OsaError
from osa.model.processor import prepare as _prepare

_prepare()  # before anything imports torch

if TYPE_CHECKING:
    from osa.model.embedder import EmbeddingModel
    from osa.model.encoder import Encoder
else:
    _LATER = {"EmbeddingModel": "osa.model.embedder", "Encoder": "osa.model.encoder"}

    def __getattr__(name: str) -> object:
        """Import what needs torch; type checkers see the imports above instead."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_LATER[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Names of the module, those that are not imported yet too."""
        return sorted({*globals(), *__all__})


__all__ = [
    "CheckpointError",
    "ConfigError",
    "EmbeddingModel",
    "Encoder",
    "EncoderConfig",
    "InputError",
    "OsaError",
]
