"""Vectors turned so that their leading numbers say most, and may be taken alone.

An orthogonal matrix after pooling turns vectors onto their principal axes over the texts that the
student has learnt on. Lengths and cosines of whole vectors stay; the first k numbers, normalised
again, are the best k of a linear kind (Matryoshka dimensions, arXiv:2205.13147, without training).

Shapes: S texts, E embedding width, D width of pooled states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.training.objectives.distillation import principal_rotation


def check_turnable(model: EmbeddingModel, dimensions: Sequence[int]) -> None:
    """Refuse a model whose vectors cannot be turned by one more matrix, and wrong dimensions.

    Raises:
        ConfigError: A non-linearity or a bottleneck follows the projection, or the dimensions do
            not descend from the full width.
    """
    config = dataclasses.replace(model.config, matryoshka_dims=tuple(dimensions))
    if config.embedding_activation != "identity":
        raise ConfigError(
            "--matryoshka turns vectors by a matrix; of this model they come out of "
            f"{config.embedding_activation}, after which a matrix has no place"
        )
    if model.bottleneck is not None:
        raise ConfigError("--matryoshka turns vectors, which the bottleneck of this model has done")


@torch.no_grad()
def turn_vectors(
    model: EmbeddingModel, vectors: Float[np.ndarray, "S E"], dimensions: Sequence[int]
) -> tuple[EmbeddingModel, Float[np.ndarray, "S E"]]:
    """The same model with turned vectors, and these.

    Args:
        model: As ``check_turnable`` allows.
        vectors: Unit vectors of the model, of many texts.
        dimensions: Leading widths that may be asked for, descending from E.

    Raises:
        ConfigError: Dimensions do not descend from the full width.
    """
    config = dataclasses.replace(
        model.config,
        embedding_size=model.config.vector_size,
        embedding_dense=True,
        matryoshka_dims=tuple(dimensions),
    )
    turned = EmbeddingModel(config, model.tokenizer)
    state = model.state_dict()
    axes = principal_rotation(vectors)
    turn = axes.T
    if model.projection is None:
        state["projection.weight"] = turn
        if config.embedding_bias:
            state["projection.bias"] = torch.zeros(len(turn))
    else:
        for name in (name for name in state if name.startswith("projection.")):
            state[name] = turn @ state[name]
    turned.load_state_dict(state)
    turned.prompts, turned.default_prompt_name = model.prompts, model.default_prompt_name
    return turned.eval(), vectors @ axes.numpy()
