"""The blocks of an encoder on a CPU, in few passes over memory.

Each block's mixer mixes the heads, everything between two of them runs in one call of
``osa.model.kernels.native_block``.

Shapes: T tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.inference.packed_linear import PackedLinear
from osa.model.kernels import is_allowed
from osa.model.kernels import native_block as kernel
from osa.model.kernels.native_pass import Batch, Mixing, run
from osa.model.kernels.packed_weights import padded
from osa.model.layers.block import Block
from osa.model.layers.mixers.base import HEAD_EPS, Mixer, TokenContext

Rotary = tuple[Tensor, Tensor]
PARTS = {"qkv": 3, "out": 1, "down": 1}
"""Layers that are joined in one; ``up`` has two where it is gated."""


class PackedBlocks(nn.Module):
    """All blocks of an encoder as one module.

    Attributes:
        exact: Compute in float32, block by block, with the weights as they were rounded.
    """

    def __init__(self, blocks: Sequence[Block], dtype: str) -> None:
        """Take over blocks: their linear layers are packed, in place.

        Args:
            blocks: Of one encoder; see ``can_pack``.
            dtype: Of their products, one of ``DTYPES``.
        """
        super().__init__()
        mixer, norm = _mixer(blocks[0]), blocks[-1].feed_forward_norm  # alike in all
        epsilon = norm.eps or 0.0 if isinstance(norm, nn.RMSNorm | nn.LayerNorm) else 0.0
        features = mixer.num_heads * mixer.head_dim
        self.exact = False
        self._shape = kernel.Shape(features, mixer.num_heads, dtype, epsilon, HEAD_EPS)
        self._width = padded(features, dtype)
        for block in blocks:
            _pack_layers(block, dtype)
        self.blocks = nn.ModuleList(blocks)
        weights = [_weights(block, self._width - features) for block in blocks]
        self._transforms = kernel.transforms(self._shape, weights)
        self._mixings = [_mixer(block).native_mixing() for block in blocks]

    @property
    def dtype(self) -> str:
        """Dtype of products."""
        return self._shape.dtype

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D], float32."""
        if self._fits(hidden, context):
            return self._packed(hidden[0], context)[None]
        for block in self.blocks:
            hidden = block(hidden, context)
        return hidden

    def _fits(self, hidden: Tensor, context: TokenContext) -> bool:
        """Whether these states are those of a packed batch, in inference."""
        if self.exact or torch.compiler.is_compiling() or hidden.requires_grad:
            return False
        return context.cu_seqlens is not None and hidden.dtype == torch.float32

    def _packed(self, inputs: Float[Tensor, "T D"], context: TokenContext) -> Tensor:
        rows, features = inputs.shape
        missing = self._width - features
        hidden = F.pad(inputs, (0, missing)) if missing else inputs.contiguous().clone()
        tables = {False: _rotary(context.rotary), True: _rotary(context.local_rotary)}
        rotaries = [
            (tables[True] if _mixer(block).local else None) or tables[False]
            for block in self.blocks
        ]
        states = hidden.new_empty(rows, 3, self._width, dtype=kernel.STATES[self.dtype])
        mixings = [mixing for mixing in self._mixings if mixing is not None]
        if len(mixings) == len(self.blocks) and is_allowed("native"):
            self._run(hidden, states, mixings, rotaries, context)
        else:
            self._alternate(hidden, states, rotaries, context)
        return hidden[:, :features] if missing else hidden

    def _run(
        self,
        hidden: Tensor,
        states: Tensor,
        mixings: list[Mixing],
        rotaries: list[Rotary | None],
        context: TokenContext,
    ) -> None:
        """All blocks in one call of the library; see ``native_pass.run``."""
        assert context.cu_seqlens is not None  # a packed batch
        offsets = context.cu_seqlens.to("cpu", torch.int32).contiguous()
        bias = None
        if context.bias is not None:
            longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
            bias = context.bias.by_distance(max(1, longest))
        features, heads = self._shape.features, self._shape.heads
        mixed = states.new_empty(len(states), heads, features // heads)
        run(self._transforms, mixings, rotaries, Batch(hidden, states, mixed, offsets, bias))

    def _alternate(
        self,
        hidden: Tensor,
        states: Tensor,
        rotaries: list[Rotary | None],
        context: TokenContext,
    ) -> None:
        """Block by block, with mixers of any kind."""
        features = self._shape.features
        query, key, value = (
            part[:, :features].unflatten(1, (self._shape.heads, -1)).transpose(0, 1)[None]
            for part in states.unbind(1)
        )
        mixed = None
        for block, transform, rotary in zip(self.blocks, self._transforms, rotaries, strict=False):
            kernel.compute(transform.call(hidden, mixed, states, rotary))
            heads = _mixer(block).mix_heads(query, key, value, context)
            mixed = heads[0].transpose(0, 1).flatten(1).contiguous()
        kernel.compute(self._transforms[-1].call(hidden, mixed, states, None))


def can_pack(blocks: Sequence[nn.Module]) -> bool:
    """Whether the library is there and computes such blocks."""
    return kernel.is_available() and bool(blocks) and all(map(_is_packable, blocks))


def _is_packable(block: nn.Module) -> bool:
    if not isinstance(block, Block):
        return False
    mixer, feed_forward = block.mixer, block.feed_forward
    layers = (mixer.qkv, mixer.out, feed_forward.up, feed_forward.down)
    return (
        all(isinstance(layer, nn.Linear) for layer in layers)
        and feed_forward.activation_name in kernel.ACTIVATIONS
        and kernel.fits(mixer.num_heads * mixer.head_dim, mixer.num_heads)
    )


def _pack_layers(block: Block, dtype: str) -> None:
    mixer, feed_forward = block.mixer, block.feed_forward
    parts = PARTS | {"up": 2 if feed_forward.gated else 1}
    for owner, names in ((mixer, ("qkv", "out")), (feed_forward, ("up", "down"))):
        for name in names:
            setattr(owner, name, PackedLinear(getattr(owner, name), dtype, parts[name]))
    mixer.operand_dtype = None if dtype == "float32" else kernel.STATES[dtype]


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


def _weights(block: Block, missing: int) -> kernel.BlockWeights:
    mixer, feed_forward = block.mixer, block.feed_forward
    return kernel.BlockWeights(
        _norm(block.mixer_norm, missing),
        _layer(mixer.qkv),
        _layer(mixer.out),
        _norm(block.feed_forward_norm, missing),
        _layer(feed_forward.up),
        _layer(feed_forward.down),
        feed_forward.activation_name,
        mixer.qk_norm,
        block.residual,
        feed_forward.gated,
        isinstance(block.feed_forward_norm, nn.LayerNorm),
        block.post,
    )


def _layer(layer: nn.Module) -> kernel.Layer:
    assert isinstance(layer, PackedLinear)  # packed before
    return layer.layer()


def _norm(norm: nn.Module, missing: int) -> kernel.Affine:
    """Weight and bias, with zeros for what pads the hidden states."""
    if not isinstance(norm, nn.RMSNorm | nn.LayerNorm):
        return kernel.Affine(None)
    weight, bias = (
        None if part is None else F.pad(part.detach().float(), (0, missing)).contiguous()
        for part in (norm.weight, getattr(norm, "bias", None))
    )
    return kernel.Affine(weight, bias)
