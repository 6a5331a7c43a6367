"""Inference in bfloat16: products and attention on narrow operands, all else in float32.

Weights and activations are rounded to bfloat16 where a product reads them; norms, residual sums,
pooling and normalising stay in float32. A product over more than ``SUM_WIDTH`` inputs is made of
several, added in float32: oneDNN splits longer sums by the number of rows, and a vector's bits
would depend on its batch (decision 17). On AMX ``fused_blocks`` does it in another way
(decision 21).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from osa.model import processor
from osa.model.embedding_model import EmbeddingModel
from osa.model.inference.bfloat16_linear import NarrowLinear
from osa.model.inference.fused_blocks import FusedBlocks
from osa.model.layers.block import Block
from osa.model.layers.mixers.osa import OsaMixer


def use_bfloat16(model: EmbeddingModel, keep_float32: bool = True) -> EmbeddingModel:
    """Make ``model`` compute in bfloat16, in place; for inference alone.

    Args:
        model: Loaded in float32.
        keep_float32: Keep the weights in float32 as well: see ``in_float32``.
    """
    blocks = [block for block in model.encoder.blocks if isinstance(block, Block)]
    for block in blocks:
        feed_forward, mixer = block.feed_forward, block.mixer
        for owner, names in ((feed_forward, ("up", "down")), (mixer, ("qkv", "out"))):
            for name in names:
                narrow = NarrowLinear(getattr(owner, name), keep_float32, name == "up")
                setattr(owner, name, narrow)
        if isinstance(mixer, OsaMixer):
            mixer.operand_dtype = torch.bfloat16
    model.encoder.blocks = nn.ModuleList([FusedBlocks(blocks)])
    return model.requires_grad_(False)


@contextlib.contextmanager
def in_float32(model: EmbeddingModel) -> Iterator[None]:
    """Within the block a model of ``use_bfloat16`` computes in float32; one thread at a time."""
    narrowed = [module for module in model.modules() if isinstance(module, NarrowLinear)]
    mixers = [module for module in model.modules() if isinstance(module, OsaMixer)]
    before = [mixer.operand_dtype for mixer in mixers]
    for module in narrowed:
        module.exact = True
    for mixer in mixers:
        mixer.operand_dtype = None
    try:
        yield
    finally:
        for module in narrowed:
            module.exact = False
        for mixer, dtype in zip(mixers, before, strict=True):
            mixer.operand_dtype = dtype


def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are native there: AMX, AVX-512 BF16, every recent GPU."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if processor.has_bfloat16_products():
        return True
    told = torch.cpu.get_capabilities()  # where the system names no features
    limited = processor.instruction_set_limit() in ("avx2", "baseline")
    return not limited and bool(told.get("amx_bf16") or told.get("avx512_bf16"))
