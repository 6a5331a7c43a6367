"""Orthogonal Self-Attention: the operator, encoders built on it, and their weights.

Layers, lowest first: ``functional`` (pure maths) -> ``kernels`` -> ``ops`` (the torch operator) ->
``layers`` -> ``embedding_model`` (the graph that ships).

``EmbeddingModel`` and ``Encoder`` are imported when they are first asked for: a command that only
raises ``ConfigError`` does not wait for torch.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError, OsaError
from osa.model.processor import prepare as _prepare

_prepare()  # before anything imports torch

if TYPE_CHECKING:
    from osa.model.embedding_model import EmbeddingModel
    from osa.model.layers.encoder import Encoder
else:
    _LATER = {"EmbeddingModel": "osa.model.embedding_model", "Encoder": "osa.model.layers.encoder"}

    def __getattr__(name: str) -> object:
        """Import what needs torch, or a submodule; type checkers see the imports above instead."""
        try:
            if name in _LATER:
                value = getattr(import_module(_LATER[name]), name)
            elif name.startswith("_"):
                raise ModuleNotFoundError(name=name)
            else:
                value = import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name in (name, f"{__name__}.{name}"):
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
            raise
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

if "torch" in sys.modules:  # who uses torch already finds the operator registered, as before
    import_module("osa.model.ops")
