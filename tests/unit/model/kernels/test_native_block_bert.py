"""The block between two attentions of BERT-like encoders: biases, LayerNorm, norms after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.inference.bfloat16_linear import Bfloat16Linear
from osa.model.inference.fused_blocks import FusedBlocks
from osa.model.kernels.native_block import available
from osa.model.layers.block import Block
from osa.model.layers.mixers import TokenContext
from osa.model.layers.positions import rotary_table

pytestmark = pytest.mark.skipif(not available(), reason="needs the CPU kernel and AMX")
BIASES: dict[str, Any] = {
    "attention_bias": True,
    "ffn_up_bias": True,
    "ffn_down_bias": True,
    "norm_bias": True,
}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {"norm_type": "layer", "norm_place": "post", **BIASES},
    "gte": {"norm_type": "layer", "norm_place": "post", "ffn_gated": True, **BIASES},
    "nomic": {"norm_type": "layer", "norm_place": "post", "ffn_gated": True, "activation": "silu"},
    "modernbert": {"norm_type": "layer", "ffn_gated": True, "embedding_norm": True},
    "pre-norm with biases": {"norm_type": "layer", "activation": "gelu_tanh", **BIASES},
    "rms after the sums": {"norm_place": "post"},
    "without norms": {"norm": False},
}


def blocks_of(**fields: Any) -> list[Block]:
    """Three random blocks, every parameter away from 0 and 1."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 64, "num_heads": 2, "ffn_size": 416, "vocab_size": 1}
    config = EncoderConfig.from_dict(
        {"mixer": "softmax", "qk_norm": False, "embedding_norm": False, **sizes, **fields}
    )
    blocks = [Block(config, layer) for layer in range(3)]
    for block in blocks:
        for parameter in block.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, -0.5, 1.5)
            else:
                nn.init.normal_(parameter, 0.0, parameter.shape[1] ** -0.5)
    return blocks


def in_bfloat16(blocks: list[Block]) -> FusedBlocks:
    for block in blocks:
        for owner, names in ((block.feed_forward, ("up", "down")), (block.mixer, ("qkv", "out"))):
            for name in names:
                setattr(owner, name, Bfloat16Linear(getattr(owner, name), True, name == "up"))
        block.mixer.operand_dtype = torch.bfloat16
    return FusedBlocks(blocks)


def context_of(lengths: list[int]) -> TokenContext:
    offsets = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    return TokenContext(None, offsets, rotary_table(places, 32, 1e4))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_fused_blocks_are_the_blocks(kind: str) -> None:
    lengths = [1, 5, 40, 33, 200]
    hidden = torch.randn(1, sum(lengths), 64)
    context = context_of(lengths)
    exact = hidden
    for block in blocks_of(**KINDS[kind]):
        exact = block(exact, context)
    fused = in_bfloat16(blocks_of(**KINDS[kind]))
    assert fused._fits(hidden, context)
    found = fused(hidden, context)
    scale = exact.square().mean().sqrt()
    assert ((found - exact).square().mean().sqrt() / scale) < 0.01
    assert cosines(found, exact).min() > 0.999


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_sequence_has_the_same_bits_alone(kind: str) -> None:
    lengths = [1, 5, 40, 33, 200]
    hidden = torch.randn(1, sum(lengths), 64)
    fused = in_bfloat16(blocks_of(**KINDS[kind]))
    together = fused(hidden, context_of(lengths)).split(lengths, dim=1)
    for part, whole in zip(hidden.split(lengths, dim=1), together, strict=True):
        assert torch.equal(fused(part, context_of([part.shape[1]])), whole)


def cosines(left: Tensor, right: Tensor) -> Tensor:
    return torch.cosine_similarity(left[0], right[0], dim=-1)
