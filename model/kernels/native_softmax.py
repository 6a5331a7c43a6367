"""Softmax attention over packed sequences on CPUs, by the library of ``osa.model.kernels.native``.

``csrc/osa_softmax.h`` specifies it. A query's result depends on its own sequence alone, bit for
bit, on any number of threads; nothing is padded, gathered or scattered.

Shapes: H heads, T packed tokens, d head width, R reach of a bias.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native import (
    ABI_VERSION,
    DTYPES,
    MAX_HEAD_DIM,
    Operand,
    library,
    operand,
    parallel,
)

BIAS_MARGIN = 64
"""Numbers behind each head's biases that the library may read and does not use."""


class Call(ctypes.Structure):
    """``OsaSoftmaxCall`` of ``csrc/osa_softmax.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("query", Operand),
        ("key", Operand),
        ("value", Operand),
        ("output", Operand),
        ("cu_seqlens", c_void_p),
        ("heads", c_int64),
        ("length", c_int64),
        ("head_dim", c_int64),
        ("sequences", c_int64),
        ("bias", c_void_p),
        ("reach", c_int64),
        ("bias_row", c_int64),
        ("window", c_int64),
        ("scale", c_float),
        ("dtype", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


def supports(query: Tensor) -> bool:
    """Whether operands like ``query`` [1, H, T, d] can be computed: on a CPU, without gradients."""
    if query.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return (
        query.shape[-1] <= MAX_HEAD_DIM and query.dtype in DTYPES and not isinstance(library(), str)
    )


def attend_packed(
    query: Float[Tensor, "1 H T D"],
    key: Float[Tensor, "1 H T D"],
    value: Float[Tensor, "1 H T D"],
    cu_seqlens: Int[Tensor, " S1"],
    bias: Float[Tensor, "H R2"] | None = None,
    window: int | None = None,
) -> Float[Tensor, "1 H T D"]:
    """softmax(Q K^T / sqrt(d) + bias) V within each sequence, stored token by token.

    Args:
        query: Queries; see ``supports``.
        key: Keys.
        value: Values.
        cu_seqlens: Offsets of the sequences.
        bias: Of each head and relative position, -(R - 1) to R - 1; R is the longest sequence or
            more.
        window: Largest distance of a key from its query; None for no limit.

    Raises:
        InputError: Offsets or biases that do not fit, or memory is exhausted.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    _, heads, length, head_dim = query.shape
    output = query.new_empty(1, length, heads, head_dim).transpose(1, 2)
    # Referenced until the call returns: the library gets addresses only.
    states = [part.to(query.dtype) for part in (query, key, value)]
    operands = [part if part.stride(-1) == 1 else part.contiguous() for part in states]
    offsets = cu_seqlens.to("cpu", torch.int32).contiguous()
    call = Call(
        ABI_VERSION,
        *map(operand, (*operands, output)),
        cu_seqlens=offsets.data_ptr(),
        heads=heads,
        length=length,
        head_dim=head_dim,
        sequences=len(offsets) - 1,
        window=-1 if window is None else window,
        scale=1.0 / math.sqrt(head_dim),
        dtype=DTYPES[query.dtype],
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    if bias is not None:
        padded = F.pad(bias.detach().float(), (0, BIAS_MARGIN)).contiguous()
        call.bias, call.bias_row = padded.data_ptr(), padded.shape[1]
        call.reach = (bias.shape[1] + 1) // 2
    loaded.osa_softmax.argtypes, loaded.osa_softmax.restype = [POINTER(Call)], c_int
    code = loaded.osa_softmax(ctypes.byref(call))
    if code:
        raise InputError(f"osa_softmax: {loaded.osa_attention_error(code).decode()}")
    return output
