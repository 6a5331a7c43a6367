"""Orthogonal Self-Attention: the operator, encoders built on it, and their weights.

Layers, lowest first: ``functional`` (pure maths) -> ``kernels`` -> ``ops`` (the torch operator) ->
``layers`` -> ``embedding_model`` (the exported graph).

``EmbeddingModel`` and ``Encoder`` are imported at first access, so that commands which fail early
do not import torch.
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
        """Import a class that needs torch, or a submodule; type checkers see the imports above."""
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
        """Names of the module, including those not imported yet."""
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

if "torch" in sys.modules:  # with torch imported, the operator is registered at once
    import_module("osa.model.ops")
