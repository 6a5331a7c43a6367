"""Layouts of a graph's inputs, and descriptions of inputs, outputs and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from osa.model.config import EncoderConfig

Layout = Literal["packed", "padded"]
LAYOUTS: tuple[Layout, ...] = ("packed", "padded")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: Its name.
        dtype: Element type, a name of numpy.
        shape: Sizes; a name where a size is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def describe_head(config: EncoderConfig) -> dict[str, Any]:
    """Labels of a classifier, and how logits become scores; empty for other models."""
    if config.head is None or not config.head.labels:
        return {}
    return {"labels": list(config.head.labels), "score": config.head.score}
