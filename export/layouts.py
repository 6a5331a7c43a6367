"""Layouts of a graph's inputs, and descriptions of inputs, outputs and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from osa.model.config import EncoderConfig
from osa.model.options.rules import rules_of

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


def input_specs(config: EncoderConfig, layout: Layout) -> tuple[TensorSpec, TensorSpec]:
    """Inputs of the graph of a model in a layout, in order."""
    places: tuple[int | str, ...] = ("tokens",) if layout == "packed" else ("batch", "length")
    if config.vocab_size is not None:
        first = TensorSpec("input_ids", "int64", places)
    else:
        assert config.feature_size is not None  # checked by EncoderConfig
        first = TensorSpec("features", "float32", (*places, config.feature_size))
    if layout == "packed":
        return first, TensorSpec("cu_seqlens", "int32", ("sequences + 1",))
    return first, TensorSpec("attention_mask", "int64", places)


def output_specs(config: EncoderConfig, layout: Layout) -> tuple[TensorSpec, ...]:
    """Outputs of the graph of a model in a layout, in order."""
    rows = "sequences" if layout == "packed" else "batch"
    places = ("tokens",) if layout == "packed" else ("batch", "length")
    return (
        TensorSpec("embeddings", "float32", (rows, config.output_size)),
        TensorSpec("norms", "float32", (rows,)),
        TensorSpec("token_embeddings", "float32", (*places, config.vector_size)),
    )


def describe_head(config: EncoderConfig) -> dict[str, Any]:
    """What is not as in a plain embedding model: options, labels, how logits become scores."""
    rules = rules_of(config)
    found: dict[str, Any] = {"options": rules} if rules else {}
    if config.head is None or not config.head.labels:
        return found
    return {**found, "labels": list(config.head.labels), "score": config.head.score}
