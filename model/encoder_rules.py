"""Options of an encoder beside its sizes: residual rule, linear layers, size flags, bottleneck."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from osa.model.common.field_types import check_fields
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.model.config import EncoderConfig

Residual = Literal["add", "none", "delta", "delta4", "write_only"]
REWRITES = ("delta", "delta4", "write_only")
"""Residual rules that change the residual stream along one direction a token."""


@dataclass(frozen=True, kw_only=True)
class EncoderRules:
    """Fields of ``EncoderConfig`` that choose the form of its parts; see ``docs/rules.md``.

    Attributes:
        linear: Projections and feed-forward layers: ``dense``, or ``monarch``, the product of two
            block-diagonal matrices.
        share_qk: Queries and keys are the same projection.
        vo: ``none`` leaves out the projections of values and of the output.
        ffn: ``none`` leaves out the feed-forward layers.
        bottleneck: ``rank_reduction`` keeps the ``bottleneck_size`` leading directions of vectors.
        bottleneck_size: Width of the vectors then.
    """

    linear: Literal["dense", "monarch"] = "dense"
    share_qk: bool = False
    vo: Literal["full", "none"] = "full"
    ffn: Literal["full", "none"] = "full"
    bottleneck: Literal["none", "rank_reduction"] = "none"
    bottleneck_size: int | None = None

    def __post_init__(self) -> None:
        """Check the types of all fields; ``residual`` may be a boolean, as in older files.

        Raises:
            ConfigError: The field, its value and what is allowed.
        """
        residual = getattr(self, "residual", None)
        if isinstance(residual, bool):
            object.__setattr__(self, "residual", "add" if residual else "none")
        check_fields(self)


def check_rules(config: EncoderConfig) -> None:
    """Refuse combinations that cannot work.

    Raises:
        ConfigError: The fields, their values and what is allowed.
    """
    if config.residual in REWRITES and config.norm_place == "post":
        raise ConfigError(
            f"residual {config.residual} reads the normalised input of each sub-layer: set "
            "norm_place to pre, got post"
        )
    if config.residual == "none" and config.ffn_gated and config.ffn == "full":
        raise ConfigError("ffn_gated needs residual connections: a gated layer is no isometry")
    size, width = config.bottleneck_size, config.embedding_size or config.hidden_size
    if (config.bottleneck == "none") != (size is None):
        raise ConfigError(
            "bottleneck rank_reduction and bottleneck_size go together, got "
            f"{config.bottleneck} and {size}"
        )
    if size is not None and not 1 <= size <= width:
        raise ConfigError(
            f"bottleneck_size must be 1 to {width}, the width of the vectors, got {size}"
        )
    if size is not None and config.head is not None and config.head.kind == "sparse":
        raise ConfigError("a sparse head has no pooled vectors, which a bottleneck would reduce")


def rules_of(config: EncoderConfig) -> dict[str, object]:
    """The options that differ from those of a plain encoder, by field."""
    rules = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(EncoderRules)
        if getattr(config, field.name) != field.default
    }
    return rules if config.residual == "add" else {"residual": config.residual, **rules}
