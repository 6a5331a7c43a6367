"""The token-wise part of an encoder between two attentions, in one call, on AMX tiles.

The library is that of ``osa.model.kernels.native``; ``csrc/osa_transform.h`` specifies the result.
A row's bits do not depend on other rows, and nothing is compiled at run time.

Shapes: T tokens, D hidden, F inner, H heads, d head width; K inputs and N outputs of a layer.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native import (
    ABI_VERSION,
    MAX_HEAD_DIM,
    instruction_set,
    library,
    parallel,
)

CELL = 32
"""Widths must be multiples of it."""
ACTIVATIONS = {"gelu": 0, "relu": 1, "silu": 2, "gelu_tanh": 3}


class _Call(ctypes.Structure):
    """``OsaTransformCall`` of ``csrc/osa_transform.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("mixed", c_void_p),
        ("out", c_void_p),
        ("up", c_void_p),
        ("down", c_void_p),
        ("out_bias", c_void_p),
        ("up_bias", c_void_p),
        ("down_bias", c_void_p),
        ("qkv_bias", c_void_p),
        ("feed_forward_norm", c_void_p),
        ("feed_forward_norm_bias", c_void_p),
        ("qkv", c_void_p),
        ("mixer_norm", c_void_p),
        ("mixer_norm_bias", c_void_p),
        ("states", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("rows", c_int64),
        ("width", c_int64),
        ("inner", c_int64),
        ("heads", c_int64),
        ("norm_epsilon", c_float),
        ("head_epsilon", c_float),
        ("activation", c_int32),
        ("gated", c_int32),
        ("layer_norm", c_int32),
        ("post", c_int32),
        ("normalize", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


class Affine(NamedTuple):
    """A layer or norm of a block: its weight, packed where it is a matrix, and its bias, if any."""

    weight: Tensor | None
    bias: Tensor | None = None


class Weights(NamedTuple):
    """Weights of one block; those of layers are packed by ``pack``, all others float32.

    Attributes:
        mixer_norm: [D]; without a weight there is no norm.
        qkv: Packed [3 D, D].
        out: Packed [D, D].
        feed_forward_norm: [D].
        up: Packed [F, D], or [2 F, D] where gated.
        down: Packed [D, F].
        activation: One of ``ACTIVATIONS``.
        normalize: Whether each head's query and key are RMS-normalised.
        gated: Whether f(a) * b of the halves of ``up`` goes on.
        layer_norm: LayerNorm instead of RMS norm.
        post: Norms follow the sums instead of going before the layers.
    """

    mixer_norm: Affine
    qkv: Affine
    out: Affine
    feed_forward_norm: Affine
    up: Affine
    down: Affine
    activation: str
    normalize: bool
    gated: bool = False
    layer_norm: bool = False
    post: bool = False


def available() -> bool:
    """Whether the library is built and the processor has AMX."""
    return not isinstance(library(), str) and instruction_set() == "amx"


def fits(hidden: int, inner: int, heads: int) -> bool:
    """Whether these widths are supported: multiples of ``CELL``, heads up to ``MAX_HEAD_DIM``."""
    return hidden % CELL == inner % CELL == hidden % heads == 0 and hidden // heads <= MAX_HEAD_DIM


def pack(weight: BFloat16[Tensor, "N K"]) -> BFloat16[Tensor, "panels pairs 32 2"]:
    """A weight in the layout of AMX tiles: for each 32 outputs, the inputs in pairs."""
    outputs, inputs = weight.shape
    split = weight.view(outputs // CELL, CELL, inputs // 2, 2)
    return split.transpose(1, 2).contiguous()


def transform(
    hidden: Float[Tensor, "T D"],
    previous: Weights | None,
    mixed: BFloat16[Tensor, "T D"] | None,
    following: Weights | None,
    states: BFloat16[Tensor, "T 3 H d"],
    rotary: tuple[Float[Tensor, "T half"], Float[Tensor, "T half"]] | None,
    norm_epsilon: float,
    head_epsilon: float,
) -> None:
    """The part of a block after its attention, then the part of the next block before it.

    Args:
        hidden: Residual stream, changed in place.
        previous: The block whose attention gave ``mixed``; None before the first.
        mixed: Result of that attention, heads side by side.
        following: The next block; None after the last.
        states: Output: queries, keys and values of ``following``.
        rotary: Cosines and sines of each token's position, or None.
        norm_epsilon: Epsilon of the norms of ``hidden``.
        head_epsilon: Epsilon of the norms of queries and keys.

    Raises:
        InputError: No library, no AMX, unsupported sizes, or memory is exhausted.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    rows, width = hidden.shape
    call = _Call(
        ABI_VERSION,
        hidden=hidden.data_ptr(),
        rows=rows,
        width=width,
        heads=states.shape[2],
        norm_epsilon=norm_epsilon,
        head_epsilon=head_epsilon,
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    if previous is not None and mixed is not None:
        call.mixed = mixed.data_ptr()
        _set(call, previous, "out", "up", "down", "feed_forward_norm")
        assert previous.up.weight is not None  # a layer
        call.inner = previous.up.weight.shape[0] * CELL // (2 if previous.gated else 1)
        call.activation, call.gated = ACTIVATIONS[previous.activation], int(previous.gated)
        if previous.post:
            _set(call, previous, "mixer_norm")
    if following is not None:
        _set(call, following, "qkv")
        if not following.post:
            _set(call, following, "mixer_norm")
        call.states, call.normalize = states.data_ptr(), int(following.normalize)
        if rotary is not None:
            call.cosine, call.sine = rotary[0].data_ptr(), rotary[1].data_ptr()
    block = previous or following
    if block is not None:
        call.layer_norm, call.post = int(block.layer_norm), int(block.post)
    loaded.osa_transform.argtypes, loaded.osa_transform.restype = [POINTER(_Call)], c_int
    code = loaded.osa_transform(ctypes.byref(call))
    if code:
        raise InputError(f"osa_transform: {loaded.osa_attention_error(code).decode()}")


def _set(call: _Call, weights: Weights, *names: str) -> None:
    """Put the addresses of layers or norms into the call."""
    for name in names:
        part: Affine = getattr(weights, name)
        for field, tensor in ((name, part.weight), (f"{name}_bias", part.bias)):
            if tensor is not None:
                setattr(call, field, tensor.data_ptr())
