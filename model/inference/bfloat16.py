"""Inference in bfloat16: products and attention on bfloat16 operands, all else in float32.

Weights and activations are rounded to bfloat16 where a product reads them; norms, residual sums,
pooling and normalising stay in float32. A product over more than ``SUM_WIDTH`` inputs is split
into several, added in float32: oneDNN splits longer sums by the number of rows, so a vector's bits
would depend on its batch (decision 17). Eager inference on CPUs takes ``packed_blocks`` instead.
"""

from __future__ import annotations

import torch

from osa.model.embedding_model import EmbeddingModel
from osa.model.inference.bfloat16_linear import Bfloat16Linear
from osa.model.inference.dense_blocks import layers_of
from osa.model.layers.block import Block
from osa.model.layers.monarch import as_dense


def use_bfloat16(model: EmbeddingModel, keep_float32: bool = True) -> EmbeddingModel:
    """Make ``model`` compute in bfloat16, in place; it can then be neither trained nor saved.

    Args:
        model: Loaded in float32.
        keep_float32: Keep the weights in float32 as well: see ``precision.in_float32``.
    """
    blocks = [block for block in model.encoder.blocks if isinstance(block, Block)]
    for block in blocks:
        for owner, name, layer in layers_of(block, lambda mixer: as_dense(mixer.qkv)):
            setattr(owner, name, Bfloat16Linear(layer, keep_float32, name == "up"))
        block.mixer.operand_dtype = torch.bfloat16
    return model.requires_grad_(False)
