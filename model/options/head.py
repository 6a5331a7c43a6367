"""What follows the encoder of a model that does not embed, as part of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from osa.model.common.field_types import check_fields
from osa.model.errors import ConfigError

HeadActivation = Literal["identity", "tanh", "gelu", "gelu_tanh", "relu", "silu"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What follows the encoder of a model that does not embed.

    Attributes:
        kind: ``classifier``, one logit a label from the pooled state; or ``sparse``, one weight a
            token id, the largest over the tokens of log(1 + relu(logit)) (SPLADE).
        labels: Names of a classifier's labels; a reranker has one.
        dense: A D x D layer before the last one.
        dense_bias: Bias of that layer.
        activation: Non-linearity after it.
        norm: LayerNorm after that.
        norm_bias: Bias of that LayerNorm.
        norm_eps: Epsilon of it.
        score: From logits to scores: ``sigmoid`` of each, or ``softmax`` over the labels.
    """

    kind: Literal["classifier", "sparse"]
    labels: tuple[str, ...] = ()
    dense: bool = True
    dense_bias: bool = True
    activation: HeadActivation = "tanh"
    norm: bool = False
    norm_bias: bool = True
    norm_eps: float = 1e-12
    score: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        """Refuse invalid values; see ``EncoderConfig``."""
        check_fields(self)
        if (self.kind == "classifier") != bool(self.labels):
            raise ConfigError(f"a {self.kind} head cannot have the labels {list(self.labels)}")
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"labels must differ, got {list(self.labels)}")
