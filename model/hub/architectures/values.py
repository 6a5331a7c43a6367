"""Typed access to a ``config.json`` of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from osa.model.errors import CheckpointError, UnsupportedModelError
from osa.model.hub.names import ModelNames

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Non-linearities of transformers, as ``EncoderConfig.activation``."""
Kind = TypeVar("Kind", int, float, bool, str)


class HeadNames(NamedTuple):
    """A head of an architecture, and the names of its tensors.

    Attributes:
        dense: The layer before the last one.
        out: The last layer; of a sparse head '' for token embeddings that it shares.
        activation: As ``HeadConfig.activation``.
        norm: LayerNorm after the activation; '' for none.
        bias: Bias of the last layer, where it has a name of its own.
    """

    dense: str
    out: str
    activation: str
    norm: str = ""
    bias: str = ""


class Architecture(NamedTuple):
    """What a ``config.json`` says about an encoder.

    Attributes:
        fields: Of ``EncoderConfig``, without ``token_types`` and what follows the encoder.
        names: Of its tensors.
        prefixes: What the names of tensors may begin with, the encoder within a larger model.
        classifier: Head of its sequence classification.
        sparse: Head of its masked language model, for SPLADE; None where none is read.
        token_types: Number of token types that it has embeddings for; 0 for none.
        pooling: Of its sequence classification.
    """

    fields: dict[str, Any]
    names: ModelNames
    prefixes: tuple[str, ...]
    classifier: HeadNames
    sparse: HeadNames | None = None
    token_types: int = 0
    pooling: str = "cls"


POOLER = HeadNames("pooler.dense", "classifier", "tanh")
"""BERT's head for sequence classification."""
ROBERTA_HEAD = HeadNames("classifier.dense", "classifier.out_proj", "tanh")
ROBERTA_MLM = HeadNames("lm_head.dense", "", "gelu", "lm_head.layer_norm", "lm_head.bias")


class Values:
    """Values of a ``config.json``; errors name the file."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        """Wrap ``values`` of the file ``where``."""
        self._values, self._where = values, where

    def get(self, names: str, default: Kind) -> Kind:
        """A value of the default's type.

        Args:
            names: Of the field, or several for the same one, by spaces.
            default: Where the field is missing or null.

        Raises:
            CheckpointError: It has another type.
        """
        for name in names.split():
            value = self._values.get(name)
            if value is None:
                continue
            if isinstance(default, float) and isinstance(value, int):
                value = float(value)
            if type(value) is not type(default):
                raise CheckpointError(
                    f"{self._where}: {name} must be {type(default).__name__}, got {value!r}"
                )
            return value
        return default

    def size(self, names: str) -> int:
        """A size of at least 1, which must be there.

        Raises:
            CheckpointError: It is missing or too small.
        """
        found = self.get(names, 0)
        if found < 1:
            raise CheckpointError(f"{self._where}: {names.split()[0]} must be at least 1")
        return found

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty where it is missing."""
        value = self._values.get(name)
        return value if isinstance(value, dict) else {}

    def strings(self, name: str) -> list[str]:
        """A list of strings; empty where it is missing."""
        value = self._values.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def integers(self, name: str) -> list[int]:
        """A list of integers; empty where it is missing or holds anything else."""
        value = self._values.get(name)
        fits = isinstance(value, list) and all(type(item) is int for item in value)
        return list(value) if fits and isinstance(value, list) else []

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._values.get(name) is not None

    def within(self, values: Mapping[str, Any]) -> Values:
        """Other values of the same file."""
        return Values(values, self._where)

    def activation(self, names: str, default: str) -> str:
        """A non-linearity, as ``EncoderConfig.activation``.

        Raises:
            UnsupportedModelError: Our encoder does not have it.
        """
        found = self.get(names, default)
        if found not in ACTIVATIONS:
            self.unsupported(f"activation {found}")
        return ACTIVATIONS[found]

    def demand(self, names: str, allowed: Kind) -> None:
        """Refuse a value other than the one that our encoder has.

        Raises:
            UnsupportedModelError: Naming field and value.
        """
        found = self.get(names, allowed)
        if found != allowed:
            self.unsupported(f"{names.split()[0]} {found!r}")

    def unsupported(self, what: str) -> None:
        """Refuse the model.

        Raises:
            UnsupportedModelError: Always; ``what`` it has that our encoder has not.
        """
        raise UnsupportedModelError(f"{self._where}: our encoder has no {what}")


POST_NORM: dict[str, Any] = {
    "mixer": "softmax",
    "qk_norm": False,
    "norm_type": "layer",
    "norm_place": "post",
    "norm_bias": True,
    "embedding_norm": True,
}
"""Fields of BERT and its descendants."""
BIASES: dict[str, Any] = dict.fromkeys(("attention_bias", "ffn_up_bias", "ffn_down_bias"), True)


def rope(values: Values, default_theta: float) -> dict[str, Any]:
    """Fields of rotary positions: base, and what stretches them.

    Args:
        values: Of the file; ``rope_parameters``, ``rope_scaling`` and ``rope_theta`` are read.
        default_theta: Base where none is given.

    Raises:
        UnsupportedModelError: Scaling that depends on the length, or is of another kind.
    """
    parameters = values.mapping("rope_parameters") or values.mapping("rope_scaling")
    theta = values.get("rope_theta rotary_emb_base", default_theta)
    theta = values.within(parameters).get("rope_theta", theta)
    inner = values.within(parameters)
    kind, factor = inner.get("rope_type type", "default"), inner.get("factor", 1.0)
    if kind in ("linear", "default"):
        return {"rope_theta": theta, "rope_divisor": factor if kind == "linear" else 1.0}
    if kind != "ntk" or inner.has("mixed_b"):
        values.unsupported(f"rotary positions of type {kind}")
    width = values.size("hidden_size n_embd") // values.size("num_attention_heads n_head")
    return {"rope_theta": theta * factor, "rope_divisor": factor ** (2 / width)}
