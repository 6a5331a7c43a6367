"""The blocks of an encoder in bfloat16 on a CPU with AMX, in few passes over memory.

Attention runs in ``osa::attention``, everything between two attentions in one call of
``osa.model.kernels.native_block``. Beside unfused blocks, sums of products are rounded less often.

Shapes: T tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model import ops
from osa.model.inference.bfloat16_linear import Bfloat16Linear
from osa.model.kernels import native_block as kernel
from osa.model.layers.block import Block
from osa.model.layers.mixers.base import HEAD_EPS, TokenContext
from osa.model.layers.mixers.osa import OsaMixer


class FusedBlocks(nn.Module):
    """All blocks of an encoder as one module: fused where supported, else one by one."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Take over blocks whose linear layers are ``Bfloat16Linear``."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        first = blocks[0].feed_forward_norm  # one configuration for all
        self._epsilon = (first.eps or 0.0) if isinstance(first, nn.RMSNorm) else 0.0
        self._weights: list[kernel.Weights] | None = None

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D], float32."""
        if self._fits(hidden, context):
            return self._fused(hidden[0], context)[None]
        for block in self.blocks:
            hidden = block(hidden, context)
        return hidden

    def _fits(self, hidden: Tensor, context: TokenContext) -> bool:
        """Whether these states can run fused: packed, without gradients, on a CPU with AMX."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or hidden.is_cuda:
            return False
        if context.mask is not None or hidden.shape[0] != 1 or hidden.dtype != torch.float32:
            return False
        return kernel.available() and all(_is_fusible(block) for block in self.blocks)

    def _fused(self, inputs: Float[Tensor, "T D"], context: TokenContext) -> Tensor:
        if self._weights is None:  # packed once, at first use
            self._weights = [_weights(block) for block in self.blocks]
        hidden = inputs.clone(memory_format=torch.contiguous_format)
        rotary = None
        if context.rotary is not None:
            cosine, sine = context.rotary
            rotary = (cosine[0].float().contiguous(), sine[0].float().contiguous())
        previous, mixed = None, None
        epsilon = self._epsilon
        states = hidden.new_empty(len(hidden), 3, 1, hidden.shape[1], dtype=torch.bfloat16)
        for block, following in zip(self.blocks, self._weights, strict=True):
            mixer = _mixer(block)
            states = states.view(len(hidden), 3, mixer.num_heads, mixer.head_dim)
            kernel.transform(hidden, previous, mixed, following, states, rotary, epsilon, HEAD_EPS)
            query, key, value = (state.transpose(0, 1)[None] for state in states.unbind(1))
            heads = ops.attention(
                query, key, value, mixer.alpha, None, context.cu_seqlens, mixer.scale, mixer.center
            )
            previous, mixed = following, heads[0].transpose(0, 1).flatten(1).contiguous()
        kernel.transform(hidden, previous, mixed, None, states, rotary, epsilon, HEAD_EPS)
        return hidden


def _mixer(block: nn.Module) -> OsaMixer:
    mixer = block.mixer
    assert isinstance(mixer, OsaMixer)  # checked by _fits
    return mixer


def _weights(block: nn.Module) -> kernel.Weights:
    assert isinstance(block, Block)  # the constructor takes blocks alone
    mixer, feed_forward = _mixer(block), block.feed_forward
    return kernel.Weights(
        _norm_weight(block.mixer_norm),
        _pack(mixer.qkv),
        _pack(mixer.out),
        _norm_weight(block.feed_forward_norm),
        _pack(feed_forward.up),
        _pack(feed_forward.down),
        feed_forward.activation,
        mixer.qk_norm,
    )


def _norm_weight(norm: nn.Module) -> Tensor:
    weight = norm.weight
    assert isinstance(weight, Tensor)  # checked by _fits
    return weight.detach().float().contiguous()


def _pack(layer: nn.Module) -> Tensor:
    assert isinstance(layer, Bfloat16Linear)  # checked by _fits
    return kernel.pack(torch.cat(layer.parts(), dim=1))


def _is_fusible(block: nn.Module) -> bool:
    """Whether a block has skips, norms, the osa mixer, and layers that compute in bfloat16."""
    if not isinstance(block, Block) or not isinstance(block.mixer, OsaMixer):
        return False
    if not block.residual or block.post or block.feed_forward.gated:
        return False
    norms = (block.mixer_norm, block.feed_forward_norm)
    if not all(isinstance(norm, nn.RMSNorm) and norm.weight is not None for norm in norms):
        return False
    mixer, feed_forward = block.mixer, block.feed_forward
    layers = (mixer.qkv, mixer.out, feed_forward.up, feed_forward.down)
    if not all(_is_plain(layer) for layer in layers):
        return False
    inner, hidden = feed_forward.up.out_features, feed_forward.down.out_features
    return feed_forward.activation in kernel.ACTIVATIONS and kernel.fits(
        hidden, inner, mixer.num_heads
    )


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes in bfloat16 and has no bias."""
    return isinstance(layer, Bfloat16Linear) and not layer.exact and layer.rounded_bias is None
