"""The blocks of an encoder in bfloat16 on a CPU, as few passes over memory as can be.

The same arithmetic as the blocks of ``osa.model.precision`` one by one: residual sums, norms and
positions run in ``osa.model.kernels.rows``, products in torch, attention in ``osa::attention``.
Token-wise work goes by tiles of ``TOKEN_TILE``, so that a long text stays in cache, and on
``rounded_rows``; the rows added hold zeros and what comes of them.

Shapes: T tokens, D hidden, H heads, d head width, F inner width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model import ops
from osa.model.kernels import rows
from osa.model.layers import NORM_EPS, Block
from osa.model.mixers import TokenContext
from osa.model.mixers.osa import OsaMixer
from osa.model.narrow import NarrowLinear
from osa.model.tiling import TOKEN_TILE, round_rows, rounded_rows

HEAD_EPS = 1e-6


class FusedBlocks(nn.Module):
    """All blocks of an encoder as one module: fused where that is possible, else one by one."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Take over blocks whose linear layers are ``NarrowLinear``."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D], float32."""
        if self._fits(hidden, context):
            return self._fused(hidden[0], context)[None]
        for block in self.blocks:
            hidden = block(hidden, context)
        return hidden

    def _fits(self, hidden: Tensor, context: TokenContext) -> bool:
        """Whether the fused way can be gone: packed, in inference, on a CPU with the library."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or hidden.is_cuda:
            return False
        if context.mask is not None or hidden.shape[0] != 1 or hidden.dtype != torch.float32:
            return False
        return rows.available() and all(_is_fusible(block) for block in self.blocks)

    def _fused(self, inputs: Float[Tensor, "T D"], context: TokenContext) -> Tensor:
        count, size = len(inputs), rounded_rows(len(inputs))
        hidden = inputs.new_zeros(size, inputs.shape[1])
        hidden[:count] = inputs
        tiles = [slice(at, min(at + TOKEN_TILE, size)) for at in range(0, size, TOKEN_TILE)]
        rotary = None
        if context.rotary is not None:
            cosine, sine = context.rotary
            rotary = (round_rows(cosine[0]).contiguous(), round_rows(sine[0]).contiguous())
        pending: list[list[Tensor]] = [[] for _ in tiles]  # what the last block adds
        for block in self.blocks:
            assert isinstance(block, Block)  # nothing else is held
            mixer = block.mixer
            assert isinstance(mixer, OsaMixer)  # _fits has made sure
            states = torch.empty(size, 3, mixer.num_heads, mixer.head_dim, dtype=torch.bfloat16)
            for tile, parts in zip(tiles, pending, strict=True):
                normed = rows.add_norm(hidden[tile], parts, _weight(block.mixer_norm), NORM_EPS)
                assert normed is not None  # a norm was asked for
                (weight,) = _narrow(mixer.qkv).parts()
                torch.mm(normed, weight.t(), out=states[tile].flatten(1))
                part = None if rotary is None else (rotary[0][tile], rotary[1][tile])
                rows.prepare_heads(states[tile], part, mixer.qk_norm, HEAD_EPS)
            query, key, value = (state.transpose(0, 1)[None] for state in states[:count].unbind(1))
            mixed = ops.attention(
                query, key, value, mixer.alpha, None, context.cu_seqlens, mixer.scale, mixer.center
            )
            joined = mixed[0].transpose(0, 1).flatten(1)
            pending = [
                self._feed_forward(
                    block, hidden[tile], _products(mixer.out, round_rows(joined[tile]))
                )
                for tile in tiles
            ]
        for tile, parts in zip(tiles, pending, strict=True):
            rows.add_norm(hidden[tile], parts, None, NORM_EPS)
        return hidden[:count]

    @staticmethod
    def _feed_forward(block: Block, hidden: Tensor, mixed: list[Tensor]) -> list[Tensor]:
        """Add what the mixer gave; return the parts that the feed-forward layer gives."""
        normed = rows.add_norm(hidden, mixed, _weight(block.feed_forward_norm), NORM_EPS)
        assert normed is not None  # a norm was asked for
        (inner,) = _products(block.feed_forward.up, normed)
        return _products(block.feed_forward.down, block.feed_forward.activation(inner))


def _products(layer: nn.Module, inputs: Float[Tensor, "T K"]) -> list[Tensor]:
    """The parts of a product, bfloat16 [T, N] each; added up elsewhere."""
    narrow = _narrow(layer)
    return [
        F.linear(part, weight)
        for part, weight in zip(inputs.split(narrow.widths, dim=-1), narrow.parts(), strict=True)
    ]


def _narrow(layer: nn.Module) -> NarrowLinear:
    assert isinstance(layer, NarrowLinear)  # _fits has made sure
    return layer


def _weight(norm: nn.Module) -> Tensor:
    weight = norm.weight
    assert isinstance(weight, Tensor)  # _fits has made sure
    return weight


def _is_fusible(block: nn.Module) -> bool:
    """Whether a block has skips, norms, the osa mixer, and narrow layers that may stay narrow."""
    if not isinstance(block, Block) or not block.residual or not isinstance(block.mixer, OsaMixer):
        return False
    norms = (block.mixer_norm, block.feed_forward_norm)
    if not all(isinstance(norm, nn.RMSNorm) and norm.weight is not None for norm in norms):
        return False
    single = (block.mixer.qkv, block.feed_forward.up)  # their parts would have to be added first
    several = (block.mixer.out, block.feed_forward.down)
    return all(
        isinstance(layer, NarrowLinear) and not layer.exact and len(layer.widths) <= most
        for layers, most in ((single, 1), (several, rows.MAX_PARTS))
        for layer in layers
    )
