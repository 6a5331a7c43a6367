"""The token-wise part of an encoder between two attentions, in one call of the CPU kernel.

The library is that of ``osa.model.kernels.native``; ``csrc/osa_transform.h`` specifies the result.
Products are in float32, bfloat16 or int8, on whatever the processor has for them. A row's bits do
not depend on other rows, nor on the number of threads, and nothing is compiled at run time.

Shapes: T tokens, D hidden, F inner, H heads, d head width; K inputs and N outputs of a layer. D and
F are rounded up as ``padded`` says; what is added is zero.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native import ABI_VERSION, MAX_HEAD_DIM, library, parallel
from osa.model.kernels.packed_weights import DTYPES, PackedWeight

ACTIVATIONS = {"gelu": 0, "relu": 1, "silu": 2, "gelu_tanh": 3}
STATES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16}
"""Queries, keys, values and mixed heads, by the dtype of products."""


class _Layer(ctypes.Structure):
    """``OsaLayer`` of ``csrc/osa_transform.h``, field by field."""

    _fields_ = (
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("scale", c_void_p),
        ("totals", c_void_p),
    )


class _Norm(ctypes.Structure):
    """``OsaNorm`` of ``csrc/osa_transform.h``, field by field."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class Call(ctypes.Structure):
    """``OsaTransformCall`` of ``csrc/osa_transform.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("mixed", c_void_p),
        ("out", _Layer),
        ("up", _Layer),
        ("down", _Layer),
        ("feed_forward_norm", _Norm),
        ("qkv", _Layer),
        ("side", _Layer),
        ("mixer_norm", _Norm),
        ("states", c_void_p),
        ("sides", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("rows", c_int64),
        ("width", c_int64),
        ("inner", c_int64),
        ("side_width", c_int64),
        ("features", c_int64),
        ("heads", c_int64),
        ("norm_epsilon", c_float),
        ("head_epsilon", c_float),
        ("dtype", c_int32),
        ("activation", c_int32),
        ("residual", c_int32),
        ("gated", c_int32),
        ("layer_norm", c_int32),
        ("post", c_int32),
        ("normalize", c_int32),
        ("parts", c_int32),
        ("turned", c_int32),
        ("follows", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


class Affine(NamedTuple):
    """A norm of a block: its float32 weight and bias [D], padded, if it has any."""

    weight: Tensor | None
    bias: Tensor | None = None


class Layer(NamedTuple):
    """A linear layer of a block: its packed weight, and its float32 bias [N], padded, if any."""

    weight: PackedWeight
    bias: Tensor | None = None


class BlockWeights(NamedTuple):
    """Weights and rules of one block.

    Attributes:
        mixer_norm: [D]; without a weight there is no norm.
        qkv: [P D, D], P the number of ``parts``.
        out: [D, D]; None where heads are what is added.
        feed_forward_norm: [D].
        up: [F, D], or [2 F, D] where gated; None, as ``down``, without a feed-forward layer.
        down: [D, F], or None.
        activation: One of ``ACTIVATIONS``.
        normalize: Whether each head's query and key are RMS-normalised.
        residual: Whether results are added to what was there.
        gated: Whether f(a) * b of the halves of ``up`` goes on.
        layer_norm: LayerNorm instead of RMS norm.
        post: Norms follow the sums instead of going before the layers.
        parts: States that ``qkv`` gives.
        turned: How many of them, from the first, are normalised and rotated.
        side: [K, D], of what ``qkv`` reads, or None.
    """

    mixer_norm: Affine
    qkv: Layer
    out: Layer | None
    feed_forward_norm: Affine
    up: Layer | None
    down: Layer | None
    activation: str
    normalize: bool
    residual: bool = True
    gated: bool = False
    layer_norm: bool = False
    post: bool = False
    parts: int = 3
    turned: int = 2
    side: Layer | None = None


class Shape(NamedTuple):
    """What all blocks of an encoder have in common.

    Attributes:
        features: D, before it is padded.
        heads: H.
        dtype: Of products, one of ``DTYPES``.
        norm_epsilon: Epsilon of the norms of hidden states.
        head_epsilon: Epsilon of the norms of queries and keys.
    """

    features: int
    heads: int
    dtype: str
    norm_epsilon: float
    head_epsilon: float


def is_available() -> bool:
    """Whether the library is built."""
    return not isinstance(library(), str)


def fits(features: int, heads: int) -> bool:
    """Whether the library computes heads as wide as these."""
    return features % heads == 0 and features // heads <= MAX_HEAD_DIM


class Transform:
    """The part of a block after its attention, then the part of the next block before it."""

    def __init__(
        self, shape: Shape, previous: BlockWeights | None, following: BlockWeights | None
    ) -> None:
        """Note all addresses but those of one batch.

        Args:
            shape: Of the encoder.
            previous: The block whose attention is done; None before the first.
            following: The next block; None after the last.
        """
        self._shape, self._kept = shape, (previous, following)
        self._call = call = Call(
            ABI_VERSION,
            features=shape.features,
            heads=shape.heads,
            norm_epsilon=shape.norm_epsilon,
            head_epsilon=shape.head_epsilon,
            dtype=DTYPES[shape.dtype],
            parallel=parallel(),
        )
        if previous is not None:
            call.out, call.up, call.down = map(_layer, (previous.out, previous.up, previous.down))
            call.feed_forward_norm = _norm(previous.feed_forward_norm)
            call.inner = 0 if previous.down is None else previous.down.weight.inputs
            call.follows = 1
            call.activation, call.gated = ACTIVATIONS[previous.activation], int(previous.gated)
            if previous.post:
                call.mixer_norm = _norm(previous.mixer_norm)
        if following is not None:
            call.qkv, call.normalize = _layer(following.qkv), int(following.normalize)
            call.parts, call.turned = following.parts, following.turned
            if following.side is not None:
                call.side, call.side_width = (
                    _layer(following.side),
                    following.side.weight.outputs,
                )
            if not following.post:
                call.mixer_norm = _norm(following.mixer_norm)
        block = previous or following
        if block is not None:
            call.layer_norm, call.post = int(block.layer_norm), int(block.post)
            call.residual = int(block.residual)

    @property
    def template(self) -> Call:
        """The call without a batch; lives as long as this object."""
        return self._call

    def call(
        self,
        hidden: Float[Tensor, "T D"],
        mixed: Float[Tensor, "T features"] | None,
        states: Float[Tensor, "T P D"],
        rotary: tuple[Float[Tensor, "T half"], Float[Tensor, "T half"]] | None,
        sides: Float[Tensor, "T K"] | None = None,
    ) -> Call:
        """The call for one batch; the tensors must live until it is done, and be contiguous.

        The dtype of ``mixed`` and ``states`` is that of ``STATES``.

        Args:
            hidden: Residual stream in float32, changed in place; columns that pad it are zero.
            mixed: Result of the attention of ``previous``, heads side by side.
            states: Output: the states of ``following``, each of heads side by side.
            rotary: Cosines and sines of each token's position in float32, or None.
            sides: Output in float32 of the layer ``side``, where there is one.
        """
        call = Call.from_buffer_copy(self._call)
        call.rows, call.width = hidden.shape
        call.hidden, call.threads = hidden.data_ptr(), torch.get_num_threads()
        if self._kept[0] is not None and mixed is not None:
            call.mixed = mixed.data_ptr()
        if self._kept[1] is not None:
            call.states = states.data_ptr()
            call.sides = None if sides is None else sides.data_ptr()
            if rotary is not None:
                call.cosine, call.sine = rotary[0].data_ptr(), rotary[1].data_ptr()
        return call


def compute(call: Call) -> None:
    """Compute what ``Transform.call`` has made.

    Raises:
        InputError: No library, unsupported sizes, or memory is exhausted.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    loaded.osa_transform.argtypes, loaded.osa_transform.restype = [POINTER(Call)], c_int
    code = loaded.osa_transform(ctypes.byref(call))
    if code:
        raise InputError(f"osa_transform: {loaded.osa_attention_error(code).decode()}")


def transforms(shape: Shape, blocks: Sequence[BlockWeights]) -> list[Transform]:
    """All of an encoder's: before the first block's attention, between two, after the last."""
    return [
        Transform(shape, previous, following)
        for previous, following in zip([None, *blocks], [*blocks, None], strict=True)
    ]


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _layer(layer: Layer | None) -> _Layer:
    if layer is None:
        return _Layer()
    weight = layer.weight
    parts = (weight.data, layer.bias, weight.scale, weight.totals)
    return _Layer(*map(_address, parts))


def _norm(norm: Affine) -> _Norm:
    return _Norm(_address(norm.weight), _address(norm.bias))
