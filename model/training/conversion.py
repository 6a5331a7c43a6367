"""Another form of a trained model's layers, to go on training from."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from osa.model.embedding_model import EmbeddingModel
from osa.model.layers.monarch import MonarchLinear, as_dense


@torch.no_grad()
def with_linear(model: EmbeddingModel, linear: Literal["dense", "monarch"]) -> EmbeddingModel:
    """A model with the same weights, its blocks' linear layers in another form.

    Dense layers become the nearest Monarch matrices, of the best sub-blocks of rank one by singular
    values (arXiv:2204.00595): close enough to train on from, not to use as they are. Monarch
    matrices become dense ones exactly.

    Args:
        model: In float32; not changed.
        linear: Form of the new model's layers.

    Raises:
        ConfigError: Widths that have no Monarch matrix.
    """
    if linear == model.config.linear:
        return model
    made = EmbeddingModel(replace(model.config, linear=linear), model.tokenizer)
    wanted = dict(made.named_modules())
    for name, layer in model.encoder.blocks.named_modules(prefix="encoder.blocks"):
        target = wanted[name]
        if type(layer) is type(target) or not isinstance(layer, torch.nn.Linear | MonarchLinear):
            continue
        if isinstance(target, MonarchLinear):
            target.project(as_dense(layer))
        else:
            target.load_state_dict(as_dense(layer).state_dict())
    others = {name: part for name, part in model.state_dict().items() if name in made.state_dict()}
    made.load_state_dict({**made.state_dict(), **others})
    made.prompts, made.default_prompt_name = model.prompts, model.default_prompt_name
    return made.train(model.training)
