"""The blocks of an encoder in bfloat16 on a CPU with AMX, in few passes over memory.

Each block's mixer mixes the heads, everything between two of them runs in one call of
``osa.model.kernels.native_block``. Beside unfused blocks, sums of products are rounded less often.

Shapes: T tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.inference.bfloat16_linear import Bfloat16Linear
from osa.model.kernels import native_block as kernel
from osa.model.layers.block import Block
from osa.model.layers.mixers.base import HEAD_EPS, Mixer, TokenContext

Rotary = tuple[Tensor, Tensor]


class FusedBlocks(nn.Module):
    """All blocks of an encoder as one module: fused where supported, else one by one."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Take over blocks whose linear layers are ``Bfloat16Linear``."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        norm = blocks[-1].feed_forward_norm  # one configuration for all
        self._epsilon = norm.eps or 0.0 if isinstance(norm, nn.RMSNorm | nn.LayerNorm) else 0.0
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
        tables = {False: _rotary(context.rotary), True: _rotary(context.local_rotary)}
        previous, mixed, rotary = None, None, None
        states = hidden.new_empty(len(hidden), 3, 1, hidden.shape[1], dtype=torch.bfloat16)
        for block, following in zip(self.blocks, self._weights, strict=True):
            mixer = _mixer(block)
            rotary = (tables[True] if mixer.local else None) or tables[False]
            states = states.view(len(hidden), 3, mixer.num_heads, mixer.head_dim)
            self._transform(hidden, previous, mixed, following, states, rotary)
            query, key, value = (state.transpose(0, 1)[None] for state in states.unbind(1))
            heads = mixer.mix_heads(query, key, value, context)
            previous, mixed = following, heads[0].transpose(0, 1).flatten(1).contiguous()
        self._transform(hidden, previous, mixed, None, states, rotary)
        return hidden

    def _transform(
        self,
        hidden: Tensor,
        previous: kernel.Weights | None,
        mixed: Tensor | None,
        following: kernel.Weights | None,
        states: Tensor,
        rotary: Rotary | None,
    ) -> None:
        """As ``kernel.transform``, with the blocks' epsilons."""
        kernel.transform(
            hidden, previous, mixed, following, states, rotary, self._epsilon, HEAD_EPS
        )


def _rotary(table: Rotary | None) -> Rotary | None:
    """Cosines and sines [T, half] of a packed batch, as the kernel reads them."""
    if table is None:
        return None
    cosine, sine = table
    return cosine[0].float().contiguous(), sine[0].float().contiguous()


def _mixer(block: nn.Module) -> Mixer:
    mixer = block.mixer
    assert isinstance(mixer, Mixer)  # the constructor takes blocks alone
    return mixer


def _weights(block: nn.Module) -> kernel.Weights:
    assert isinstance(block, Block)  # the constructor takes blocks alone
    mixer, feed_forward = _mixer(block), block.feed_forward
    return kernel.Weights(
        _norm(block.mixer_norm),
        _pack(mixer.qkv),
        _pack(mixer.out),
        _norm(block.feed_forward_norm),
        _pack(feed_forward.up),
        _pack(feed_forward.down),
        feed_forward.activation_name,
        mixer.qk_norm,
        feed_forward.gated,
        isinstance(block.feed_forward_norm, nn.LayerNorm),
        block.post,
    )


def _norm(norm: nn.Module) -> kernel.Affine:
    if not isinstance(norm, nn.RMSNorm | nn.LayerNorm):
        return kernel.Affine(None)
    return kernel.Affine(_float32(norm.weight), _float32(getattr(norm, "bias", None)))


def _float32(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().contiguous()


def _pack(layer: nn.Module) -> kernel.Affine:
    assert isinstance(layer, Bfloat16Linear)  # checked by _fits
    return kernel.Affine(kernel.pack(torch.cat(layer.parts(), dim=1)), _float32(layer.rounded_bias))


def _is_fusible(block: nn.Module) -> bool:
    """Whether a block has skips, layers that compute in bfloat16, and sizes that fit."""
    if not isinstance(block, Block) or not block.residual:
        return False
    for norm in (block.mixer_norm, block.feed_forward_norm):
        if isinstance(norm, nn.RMSNorm | nn.LayerNorm) and norm.weight is None:
            return False
    mixer, feed_forward = block.mixer, block.feed_forward
    layers = (mixer.qkv, mixer.out, feed_forward.up, feed_forward.down)
    if not all(isinstance(layer, Bfloat16Linear) and not layer.exact for layer in layers):
        return False
    inner, hidden = feed_forward.down.in_features, feed_forward.down.out_features
    return feed_forward.activation_name in kernel.ACTIVATIONS and kernel.fits(
        hidden, inner, mixer.num_heads
    )
