"""What surrounds the attention token by token, on bfloat16 operands, in one pass over memory.

The library is that of ``osa.model.kernels.native``; ``csrc/osa_rows.h`` says what is computed.
Torch takes four to six passes for the same, half of the time of an encoder in bfloat16.

Shapes: T tokens, D hidden, H heads, d head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native import ABI_VERSION, library, parallel

MAX_PARTS = 8


class _NormCall(ctypes.Structure):
    """``OsaNormCall`` of ``csrc/osa_rows.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("parts", c_void_p * MAX_PARTS),
        ("part_count", c_int64),
        ("weight", c_void_p),
        ("output", c_void_p),
        ("rows", c_int64),
        ("width", c_int64),
        ("epsilon", c_float),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


class _HeadsCall(ctypes.Structure):
    """``OsaHeadsCall`` of ``csrc/osa_rows.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("states", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("rows", c_int64),
        ("heads", c_int64),
        ("head_dim", c_int64),
        ("epsilon", c_float),
        ("normalize", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


def available() -> bool:
    """Whether the library is there."""
    return not isinstance(library(), str)


def add_norm(
    hidden: Tensor, parts: Sequence[Tensor], weight: Tensor | None, epsilon: float
) -> Tensor | None:
    """Add ``parts`` to ``hidden``, in place, and return its RMS norm.

    Args:
        hidden: Residual stream, float32 [T, D].
        parts: What is added, bfloat16 [T, D] each, at most ``MAX_PARTS``.
        weight: Of the norm, float32 [D]; None where no norm is wanted.
        epsilon: Of the norm.

    Returns:
        The norm, bfloat16 [T, D]; None without ``weight``.

    Raises:
        InputError: There is no library, or memory is short.
    """
    rows, width = hidden.shape
    output = None
    call = _NormCall(
        ABI_VERSION,
        hidden=hidden.data_ptr(),
        part_count=len(parts),
        rows=rows,
        width=width,
        epsilon=epsilon,
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    for place, part in enumerate(parts):
        call.parts[place] = part.data_ptr()
    if weight is not None:
        output = torch.empty(rows, width, dtype=torch.bfloat16)
        call.weight, call.output = weight.data_ptr(), output.data_ptr()
    _run("osa_add_norm", call)
    return output


def prepare_heads(
    states: Tensor, rotary: tuple[Tensor, Tensor] | None, normalize: bool, epsilon: float
) -> None:
    """Normalise and rotate queries and keys in place.

    Args:
        states: Queries, keys and values, bfloat16 [T, 3, H, d], contiguous.
        rotary: Cosines and sines of each token's position, float32 [T, d / 2], or None.
        normalize: RMS norm of each head's query and key.
        epsilon: Of the norm.

    Raises:
        InputError: There is no library, or memory is short.
    """
    rows, _, heads, head_dim = states.shape
    call = _HeadsCall(
        ABI_VERSION,
        states=states.data_ptr(),
        rows=rows,
        heads=heads,
        head_dim=head_dim,
        epsilon=epsilon,
        normalize=int(normalize),
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    if rotary is not None:
        call.cosine, call.sine = rotary[0].data_ptr(), rotary[1].data_ptr()
    _run("osa_prepare_heads", call)


def _run(name: str, call: ctypes.Structure) -> None:
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    function = getattr(loaded, name)
    function.argtypes, function.restype = [POINTER(type(call))], c_int
    code = function(ctypes.byref(call))
    if code:
        raise InputError(f"{name}: {loaded.osa_attention_error(code).decode()}")
