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

from osa.model.inference.dense_blocks import has_plain_stream, joint_projection, layers_of
from osa.model.inference.packed_chunks import PackedChunks
from osa.model.inference.packed_linear import PackedLinear
from osa.model.kernels import is_allowed
from osa.model.kernels import native_block as kernel
from osa.model.kernels.native_pass import Batch, Pass
from osa.model.kernels.native_rows import norm_
from osa.model.kernels.packed_weights import padded
from osa.model.layers.block import Block
from osa.model.layers.local_conv import LocalConv
from osa.model.layers.mixers.base import HEAD_EPS, Mixer, TokenContext

Rotary = tuple[Tensor, Tensor]
Rotaries = tuple[Rotary | None, Rotary | None]
"""Cosines and sines for layers that see everything, and for those that look around tokens alone."""
PARTS = {"qkv": 3, "out": 1, "side": 1, "down": 1}
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
        mixer, last = _mixer(blocks[0]), blocks[-1]  # alike in all
        norms = [last.mixer_norm, last.feed_forward_norm]
        found = [part.eps or 0.0 for part in norms if isinstance(part, nn.RMSNorm | nn.LayerNorm)]
        epsilon = found[-1] if found else 0.0
        features = mixer.num_heads * mixer.head_dim
        self.exact = False
        self._shape = kernel.Shape(features, mixer.num_heads, dtype, epsilon, HEAD_EPS)
        self._width = padded(features, dtype)
        for block in blocks:
            _pack_layers(block, dtype)
        self.blocks, self.norm = nn.ModuleList(blocks), norm
        weights = self._weights = [_weights(block, self._width - features) for block in blocks]
        sides = [own.side.weight.outputs for own in weights if own.side is not None]
        self._side_width = max(sides, default=0)
        self._transforms = kernel.transforms(self._shape, weights)
        self._halves = [
            (
                kernel.Transform(self._shape, previous, None),
                kernel.Transform(self._shape, None, own),
            )
            for previous, own in zip([None, *weights], weights, strict=False)
        ]
        self._parts = max(own.parts for own in weights)
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
        if any(block.local_conv is not None for block in self.blocks):
            return None
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
        dtype = kernel.STATES[self.dtype]
        states = hidden.new_empty(rows * self._parts * self._width, dtype=dtype)
        sides = hidden.new_empty(rows, self._side_width) if self._side_width else None
        if self._pass is not None and is_allowed("native"):
            states = states.view(rows, 3, self._width)
            self._pass.run(self._batch(hidden, states, sides, rotaries, context))
            return hidden[:, :features] if missing else hidden
        self._alternate(hidden, states, sides, rotaries, context)
        found = hidden[:, :features].contiguous()
        if isinstance(self.norm, nn.RMSNorm | nn.LayerNorm):
            norm_(found, self.norm)
        return found

    def _batch(
        self,
        hidden: Tensor,
        states: Tensor,
        sides: Tensor | None,
        rotaries: Rotaries,
        context: TokenContext,
    ) -> Batch:
        assert context.cu_seqlens is not None  # a packed batch
        offsets = context.cu_seqlens.to("cpu", torch.int32).contiguous()
        bias = None
        if context.bias is not None:
            longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
            bias = context.bias.by_distance(max(1, longest))
        features, heads = self._shape.features, self._shape.heads
        mixed = states.new_empty(len(states), heads, features // heads)
        return Batch(hidden, states, mixed, sides, offsets, rotaries, bias)

    def _alternate(
        self,
        hidden: Tensor,
        states: Tensor,
        sides: Tensor | None,
        rotaries: Rotaries,
        context: TokenContext,
    ) -> None:
        """Block by block, with mixers of any kind."""
        mixed = None
        for place, block in enumerate(self.blocks):
            mixer = _mixer(block)
            rotary = rotaries[int(mixer.local)]
            own = states[: len(hidden) * mixer.native_parts * self._width]
            own = own.view(len(hidden), mixer.native_parts, self._width)
            if block.local_conv is None:
                kernel.compute(self._transforms[place].call(hidden, mixed, own, rotary, sides))
            else:
                finish, begin = self._halves[place]
                if mixed is not None:
                    kernel.compute(finish.call(hidden, mixed, own, None))
                read = self._convolved(block, hidden, context)  # lives until it has been read
                kernel.compute(begin.call(read, None, own, rotary, sides))
            if mixer.side is not None and sides is not None:
                context = context._replace(side=sides[None, :, : _side(block).out_features])
            heads = mixer.mix_states(self._heads(mixer, own), context)
            mixed = heads[0].transpose(0, 1).flatten(1).contiguous()
        kernel.compute(self._transforms[-1].call(hidden, mixed, own, None))

    def _convolved(self, block: nn.Module, hidden: Tensor, context: TokenContext) -> Tensor:
        """What the mixer of a block reads, padded as ``hidden`` is."""
        features = self._shape.features
        assert isinstance(block.local_conv, LocalConv)  # called where there is one
        read: Tensor = block.local_conv(hidden[None, :, :features], context)[0]
        return F.pad(read, (0, self._width - features)).contiguous()

    def _heads(self, mixer: Mixer, states: Tensor) -> tuple[Tensor, ...]:
        """States as a mixer takes them [1, H, T, d], and its numbers [1, H, T, n]."""
        sizes = [self._shape.features] * mixer.parts
        if mixer.scalars:
            sizes.append(mixer.num_heads * mixer.scalars)
        return tuple(
            part[:, :size].unflatten(1, (self._shape.heads, -1)).transpose(0, 1)[None]
            for part, size in zip(states.unbind(1), sizes, strict=True)
        )


def can_pack(blocks: Sequence[nn.Module]) -> bool:
    """Whether the library is there and computes such blocks."""
    return kernel.is_available() and bool(blocks) and all(map(_is_packable, blocks))


def _is_packable(block: nn.Module) -> bool:
    if not isinstance(block, Block) or not has_plain_stream(block):
        return False
    mixer, feed_forward = block.mixer, block.feed_forward
    known = feed_forward is None or feed_forward.activation_name in kernel.ACTIVATIONS
    return known and kernel.fits(mixer.num_heads * mixer.head_dim, mixer.num_heads)


def _projection(mixer: Mixer) -> nn.Linear:
    """All states of a mixer, with zeros after numbers of heads that do not fill one."""
    width = mixer.num_heads * mixer.head_dim
    return _with_rows(joint_projection(mixer), mixer.native_parts * width)


def _pack_layers(block: Block, dtype: str) -> None:
    mixer, feed_forward = block.mixer, block.feed_forward
    gated = feed_forward is not None and feed_forward.gated
    parts = PARTS | {"qkv": mixer.native_parts, "up": 2 if gated else 1}
    for owner, name, layer in layers_of(block, _projection):
        setattr(owner, name, PackedLinear(layer, dtype, parts[name]))
    mixer.shares_qk, mixer.has_values = False, True  # by the joint projection
    mixer.operand_dtype = None if dtype == "float32" else kernel.STATES[dtype]


def _with_rows(layer: nn.Linear, count: int) -> nn.Linear:
    """The layer with outputs that are zero, up to ``count``: numbers of heads fill no state."""
    missing = count - layer.out_features
    if not missing:
        return layer
    with torch.no_grad():
        wider = nn.Linear(layer.in_features, count, bias=layer.bias is not None)
        wider.weight.copy_(F.pad(layer.weight, (0, 0, 0, missing)))
        if layer.bias is not None:
            wider.bias.copy_(F.pad(layer.bias, (0, missing)))
    return wider


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


def _side(block: nn.Module) -> PackedLinear:
    side = _mixer(block).side
    assert isinstance(side, PackedLinear)  # packed before
    return side


def _weights(block: Block, missing: int) -> kernel.BlockWeights:
    mixer, feed_forward = block.mixer, block.feed_forward
    return kernel.BlockWeights(
        _norm(block.mixer_norm, missing),
        _layer(mixer.qkv),
        None if isinstance(mixer.out, nn.Identity) else _layer(mixer.out),
        _norm(block.feed_forward_norm, missing),
        None if feed_forward is None else _layer(feed_forward.up),
        None if feed_forward is None else _layer(feed_forward.down),
        next(iter(kernel.ACTIVATIONS)) if feed_forward is None else feed_forward.activation_name,
        mixer.qk_norm,
        block.residual == "add",
        feed_forward is not None and feed_forward.gated,
        any(isinstance(norm, nn.LayerNorm) for norm in (block.mixer_norm, block.feed_forward_norm)),
        block.post,
        mixer.native_parts,
        mixer.turned,
        None if mixer.side is None else _layer(mixer.side),
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
