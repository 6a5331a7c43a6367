"""The token-wise part of an encoder between two attentions, in one call, on AMX tiles.

The library is that of ``osa.model.kernels.native``; ``csrc/osa_transform.h`` specifies the result.
A row's bits do not depend on other rows, and nothing is compiled at run time.

Shapes: T tokens, D hidden, F inner, H heads, d head width; K inputs and N outputs of a layer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
ACTIVATIONS: dict[Callable[[Tensor], Tensor], int] = {F.gelu: 0, F.relu: 1}


class _Call(ctypes.Structure):
    """``OsaTransformCall`` of ``csrc/osa_transform.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("mixed", c_void_p),
        ("out", c_void_p),
        ("up", c_void_p),
        ("down", c_void_p),
        ("feed_forward_norm", c_void_p),
        ("qkv", c_void_p),
        ("mixer_norm", c_void_p),
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
        ("normalize", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


class Weights(NamedTuple):
    """Weights of one block; matrices are packed by ``pack``.

    Attributes:
        mixer_norm: float32 [D].
        qkv: Packed [3 D, D].
        out: Packed [D, D].
        feed_forward_norm: float32 [D].
        up: Packed [F, D].
        down: Packed [D, F].
        activation: One of ``ACTIVATIONS``.
        normalize: Whether each head's query and key are RMS-normalised.
    """

    mixer_norm: Tensor
    qkv: Tensor
    out: Tensor
    feed_forward_norm: Tensor
    up: Tensor
    down: Tensor
    activation: Callable[[Tensor], Tensor]
    normalize: bool


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
        call.mixed, call.out = mixed.data_ptr(), previous.out.data_ptr()
        call.feed_forward_norm = previous.feed_forward_norm.data_ptr()
        call.up, call.down = previous.up.data_ptr(), previous.down.data_ptr()
        call.inner = previous.up.shape[0] * CELL
        call.activation = ACTIVATIONS[previous.activation]
    if following is not None:
        call.mixer_norm, call.qkv = following.mixer_norm.data_ptr(), following.qkv.data_ptr()
        call.states, call.normalize = states.data_ptr(), int(following.normalize)
        if rotary is not None:
            call.cosine, call.sine = rotary[0].data_ptr(), rotary[1].data_ptr()
    loaded.osa_transform.argtypes, loaded.osa_transform.restype = [POINTER(_Call)], c_int
    code = loaded.osa_transform(ctypes.byref(call))
    if code:
        raise InputError(f"osa_transform: {loaded.osa_attention_error(code).decode()}")
