"""The configuration of an encoder, stored with its weights.

Ports, batch sizes and devices are settings of a process: see ``osa.service.settings``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from osa.model.errors import ConfigError

Scale = Literal["paper", "length"]
Positions = Literal["rotary", "learned", "none"]
Pooling = Literal["mean", "cls"]
Activation = Literal["gelu", "relu", "silu"]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape and options of an encoder.

    Attributes:
        vocab_size: Number of token ids; None for a feature model.
        feature_size: Width of each input feature vector; None for a token model.
        hidden_size: Width D of the residual stream.
        num_layers: Number of blocks.
        num_heads: Heads per block; ``hidden_size`` must be a multiple of it.
        ffn_size: Inner width of the feed-forward layer.
        embedding_size: Width of the vectors; None means ``hidden_size``.
        matryoshka_dims: Leading widths that callers may ask for, descending, full width first.
        mixer: Name in ``osa.model.layers.mixers.MIXERS``.
        scale: ``paper`` c = alpha / sqrt(d); ``length`` c = alpha / (sqrt(d) N).
        center: Subtract each sequence's mean query and key before the scores.
        qk_norm: RMS-normalise every head's query and key.
        alpha_init: Initial value of the learnable angle of every head.
        residual: Skip connections around both sub-layers.
        norm: RMS normalisation before each sub-layer and before pooling.
        positions: ``rotary`` on q and k, ``learned`` at the input, or ``none``.
        rope_theta: Base of the rotary wavelengths [tokens].
        activation: Non-linearity of the feed-forward layer.
        pooling: ``mean`` over tokens, or the first token (``cls``).
        max_seq_len: Longest sequence that the model accepts [tokens].
    """

    vocab_size: int | None = None
    feature_size: int | None = None
    hidden_size: int = 384
    num_layers: int = 3
    num_heads: int = 12
    ffn_size: int = 1536
    embedding_size: int | None = None
    matryoshka_dims: tuple[int, ...] = ()
    mixer: str = "osa"
    scale: Scale = "length"
    center: bool = False
    qk_norm: bool = True
    alpha_init: float = 0.02
    residual: bool = True
    norm: bool = True
    positions: Positions = "rotary"
    rope_theta: float = 10000.0
    activation: Activation = "gelu"
    pooling: Pooling = "mean"
    max_seq_len: int = 32768

    def __post_init__(self) -> None:
        """Refuse invalid values and combinations.

        Raises:
            ConfigError: The field, its value and what is allowed.
        """
        self._check_types()
        if (self.vocab_size is None) == (self.feature_size is None):
            raise ConfigError(
                "exactly one of vocab_size and feature_size must be set, got "
                f"vocab_size={self.vocab_size} and feature_size={self.feature_size}"
            )
        for name in ("vocab_size", "feature_size", "hidden_size", "num_layers", "num_heads",
                     "ffn_size", "embedding_size", "max_seq_len"):  # fmt: skip
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ConfigError(f"{name} must be at least 1, got {size}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size must be a multiple of num_heads, got {self.hidden_size} "
                f"and {self.num_heads}"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ConfigError(f"rotary positions need an even head_dim, got {self.head_dim}")
        if not 1.0 < self.rope_theta < math.inf:
            raise ConfigError(f"rope_theta must be above 1 and finite, got {self.rope_theta}")
        if not math.isfinite(self.alpha_init):
            raise ConfigError(f"alpha_init must be finite, got {self.alpha_init}")
        dims = self.matryoshka_dims
        if dims and (dims[0] != self.output_size or list(dims) != sorted(set(dims), reverse=True)):
            raise ConfigError(
                f"matryoshka_dims must descend from {self.output_size} without repeats, got {dims}"
            )
        if dims and dims[-1] < 1:
            raise ConfigError(f"matryoshka_dims must be at least 1, got {dims}")

    def _check_types(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            if typing.get_origin(hint) is tuple and isinstance(value, list):
                value = tuple(value)
            if isinstance(value, int) and not isinstance(value, bool) and hint is float:
                value = float(value)
            object.__setattr__(self, name, value)
            if not _matches(value, hint):
                raise ConfigError(f"{name} must be {_allowed(hint)}, got {value!r}")

    @property
    def head_dim(self) -> int:
        """Width d of one head."""
        return self.hidden_size // self.num_heads

    @property
    def output_size(self) -> int:
        """Width of the vectors."""
        return self.embedding_size or self.hidden_size

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Leading widths that a caller may ask for, full width first."""
        return self.matryoshka_dims or (self.output_size,)

    def to_json(self) -> str:
        """Return the configuration as indented JSON, keys in field order."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Build a configuration from plain values.

        Raises:
            ConfigError: An unknown field, a wrong type or an invalid combination.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown field {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> EncoderConfig:
        """Parse what ``to_json`` wrote.

        Raises:
            ConfigError: Not a JSON object, or ``from_dict`` refuses it.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"must be a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)


def _allowed(hint: Any) -> str:
    """The values that a type hint allows, for messages."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _matches(value: object, hint: Any) -> bool:
    """Whether ``value`` is of type ``hint``: literals, unions, tuples of one type, classes."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_matches(value, part) for part in typing.get_args(hint))
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_matches(part, item) for part in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
