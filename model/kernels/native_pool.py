"""Pooling of packed sequences on CPUs, by the library of ``osa.model.kernels.native``.

``csrc/osa_pool.h`` specifies it. A sequence's vector does not depend on
other sequences, bit for bit.

Shapes: T tokens, S sequences, D hidden.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int32, c_int64, c_void_p

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import is_allowed
from osa.model.kernels.native import ABI_VERSION, library, parallel

POOLINGS = {"mean": 0, "cls": 1, "last": 2, "weighted": 3}


class Call(ctypes.Structure):
    """``OsaPoolCall`` of ``csrc/osa_pool.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("vectors", c_void_p),
        ("cu_seqlens", c_void_p),
        ("length", c_int64),
        ("width", c_int64),
        ("stride", c_int64),
        ("sequences", c_int64),
        ("how", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


def supports(hidden: Tensor) -> bool:
    """Whether states like these are pooled: float32 on a CPU, while no gradients are recorded."""
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32 or hidden.stride(-1) != 1:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return is_allowed("native") and not isinstance(library(), str)


def pool_packed(
    hidden: Float[Tensor, "T D"], how: str, cu_seqlens: Int[Tensor, " S1"]
) -> Float[Tensor, "S D"]:
    """One vector a sequence.

    Args:
        hidden: States of every token; see ``supports``.
        how: One of ``POOLINGS``.
        cu_seqlens: Offsets of the sequences.

    Raises:
        InputError: No library, or offsets that do not fit.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    offsets = cu_seqlens.to("cpu", torch.int32).contiguous()
    length, width = hidden.shape
    vectors = hidden.new_empty(len(offsets) - 1, width)
    call = Call(
        ABI_VERSION,
        hidden=hidden.data_ptr(),
        vectors=vectors.data_ptr(),
        cu_seqlens=offsets.data_ptr(),
        length=length,
        width=width,
        stride=hidden.stride(0),
        sequences=len(offsets) - 1,
        how=POOLINGS[how],
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    loaded.osa_pool.argtypes, loaded.osa_pool.restype = [POINTER(Call)], c_int
    code = loaded.osa_pool(ctypes.byref(call))
    if code:
        raise InputError(f"osa_pool: {loaded.osa_attention_error(code).decode()}")
    return vectors
