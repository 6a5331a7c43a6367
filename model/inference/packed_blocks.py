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

from osa.model.inference.packed_chunks import PackedChunks
from osa.model.inference.packed_linear import PackedLinear
from osa.model.kernels import is_allowed
from osa.model.kernels import native_block as kernel
from osa.model.kernels.native_pass import Batch, Pass
from osa.model.kernels.native_rows import norm_
from osa.model.kernels.packed_weights import padded
from osa.model.layers.block import Block
from osa.model.layers.mixers.base import HEAD_EPS, Mixer, TokenContext

Rotary = tuple[Tensor, Tensor]
Rotaries = tuple[Rotary | None, Rotary | None]
"""Cosines and sines for layers that see everything, and for those that look around tokens alone."""
PARTS = {"qkv": 3, "out": 1, "down": 1}
"""Layers that are joined in one; ``up`` has two where it is gated."""


class PackedBlocks(nn.Module):
    """All blocks of an encoder and its last norm as one module.

    Attributes:
        exact: Compute in float32, block by block, with the weights as they were rounded.
    """

    def __init__(self, blocks: Sequence[Block], norm: nn.Module, dtype: str) -> None:
        """Take over blocks: their linear layers are packed, in place.

        Args:
            blocks: Of one encoder; see ``can_pack``.
            norm: Of what the last one gives.
            dtype: Of their products, one of ``DTYPES``.
        """
        super().__init__()
        mixer, inner = _mixer(blocks[0]), blocks[-1].feed_forward_norm  # alike in all
        epsilon = inner.eps or 0.0 if isinstance(inner, nn.RMSNorm | nn.LayerNorm) else 0.0
        features = mixer.num_heads * mixer.head_dim
        self.exact = False
        self._shape = kernel.Shape(features, mixer.num_heads, dtype, epsilon, HEAD_EPS)
        self._width = padded(features, dtype)
        for block in blocks:
            _pack_layers(block, dtype)
        self.blocks, self.norm = nn.ModuleList(blocks), norm
        self._weights = [_weights(block, self._width - features) for block in blocks]
        self._transforms = kernel.transforms(self._shape, self._weights)
        self._pass = self._make_pass()

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
        normalised: Tensor = self.norm(hidden)
        return normalised

    def in_chunks(self) -> PackedChunks:
        """The same blocks on chunks of one sequence."""
        mixers = [_mixer(block) for block in self.blocks]
        shape, width = self._shape, self._width
        return PackedChunks(shape, width, self._weights, self._transforms, mixers, self.norm)

    def _make_pass(self) -> Pass | None:
        """All blocks in one call of the library, where that has their mixers."""
        mixers = [_mixer(block) for block in self.blocks]
        layers = [(mixer.native_mixing(), mixer.local) for mixer in mixers]
        found = [(mixing, local) for mixing, local in layers if mixing is not None]
        if len(found) < len(layers):
            return None
        norm = self.norm if isinstance(self.norm, nn.RMSNorm | nn.LayerNorm) else None
        return Pass(self._shape, self._transforms, found, norm)

    def _fits(self, hidden: Tensor, context: TokenContext) -> bool:
        """Whether these states are those of a packed batch, in inference."""
        if self.exact or torch.compiler.is_compiling() or hidden.requires_grad or hidden.is_cuda:
            return False
        return context.cu_seqlens is not None and hidden.dtype == torch.float32

    def _packed(self, inputs: Float[Tensor, "T D"], context: TokenContext) -> Tensor:
        rows, features = inputs.shape
        missing = self._width - features
        hidden = F.pad(inputs, (0, missing)) if missing else inputs.contiguous().clone()
        everywhere, around = _rotary(context.rotary), _rotary(context.local_rotary)
        rotaries = (everywhere, around or everywhere)
        states = hidden.new_empty(rows, 3, self._width, dtype=kernel.STATES[self.dtype])
        if self._pass is not None and is_allowed("native"):
            self._pass.run(self._batch(hidden, states, rotaries, context))
            return hidden[:, :features] if missing else hidden
        self._alternate(hidden, states, rotaries, context)
        found = hidden[:, :features].contiguous()
        if isinstance(self.norm, nn.RMSNorm | nn.LayerNorm):
            norm_(found, self.norm)
        return found

    def _batch(
        self, hidden: Tensor, states: Tensor, rotaries: Rotaries, context: TokenContext
    ) -> Batch:
        assert context.cu_seqlens is not None  # a packed batch
        offsets = context.cu_seqlens.to("cpu", torch.int32).contiguous()
        bias = None
        if context.bias is not None:
            longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
            bias = context.bias.by_distance(max(1, longest))
        features, heads = self._shape.features, self._shape.heads
        mixed = states.new_empty(len(states), heads, features // heads)
        return Batch(hidden, states, mixed, offsets, rotaries, bias)

    def _alternate(
        self, hidden: Tensor, states: Tensor, rotaries: Rotaries, context: TokenContext
    ) -> None:
        """Block by block, with mixers of any kind."""
        features = self._shape.features
        query, key, value = (
            part[:, :features].unflatten(1, (self._shape.heads, -1)).transpose(0, 1)[None]
            for part in states.unbind(1)
        )
        mixed = None
        for block, transform in zip(self.blocks, self._transforms, strict=False):
            rotary = rotaries[int(_mixer(block).local)]
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
