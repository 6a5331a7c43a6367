"""Mixers whose tokens follow one another, on packed batches, by the library of ``native``.

``csrc/osa_recurrence.h`` specifies them: whole mixers, from the states of the tokens to the mixed
heads. A head of a sequence depends on its own tokens alone, bit for bit, on any number of threads.

Shapes: H heads, T packed tokens, d head width, n numbers of a head, K weights of a head.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int32, c_int64, c_void_p
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.varlen import check_cu_seqlens
from osa.model.kernels import is_allowed
from osa.model.kernels.native import (
    ABI_VERSION,
    DTYPES,
    MAX_HEAD_DIM,
    Operand,
    library,
    operand,
    parallel,
)

Kind = Literal["prism", "pdssm", "chela"]
KINDS: dict[Kind, int] = {"prism": 0, "pdssm": 1, "chela": 2}
MOST_STATES = 5
"""States and numbers of a token, ``OSA_RECURRENCE_STATES``."""


class Call(ctypes.Structure):
    """``OsaRecurrenceCall`` of ``csrc/osa_recurrence.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("states", Operand * MOST_STATES),
        ("output", Operand),
        ("weights", c_void_p),
        ("cu_seqlens", c_void_p),
        ("heads", c_int64),
        ("length", c_int64),
        ("head_dim", c_int64),
        ("sequences", c_int64),
        ("kind", c_int32),
        ("dtype", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


def supports(states: Tensor) -> bool:
    """Whether states like these are mixed: on a CPU, while no gradients are recorded."""
    if states.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if states.dtype not in DTYPES or states.shape[-1] > MAX_HEAD_DIM:
        return False
    return is_allowed("native") and not isinstance(library(), str)


def mix_packed(
    kind: Kind,
    states: tuple[Float[Tensor, "1 H T _"], ...],
    weights: Float[Tensor, "H K"],
    cu_seqlens: Int[Tensor, " S1"],
) -> Float[Tensor, "1 H T d"]:
    """The mixed heads, stored token by token, in the dtype of the states.

    Args:
        kind: Which mixer.
        states: Its states, then the numbers of a head [1, H, T, n] where it has any; see
            ``supports``.
        weights: Its own weights by head, in the interface's order.
        cu_seqlens: Offsets of the sequences.

    Raises:
        InputError: No library, offsets that do not fit, or memory is exhausted.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    _, heads, length, head_dim = states[0].shape
    check_cu_seqlens(cu_seqlens, length)
    output = states[0].new_empty(1, length, heads, head_dim).transpose(1, 2)
    # Referenced until the call returns: the library gets addresses only.
    dtype = states[0].dtype  # under autocast others may differ
    operands = [(part if part.stride(-1) == 1 else part.contiguous()).to(dtype) for part in states]
    offsets = cu_seqlens.to("cpu", torch.int32).contiguous()
    weights = weights.detach().float().contiguous()
    call = Call(
        ABI_VERSION,
        (Operand * MOST_STATES)(*map(operand, operands)),
        operand(output),
        weights=weights.data_ptr(),
        cu_seqlens=offsets.data_ptr(),
        heads=heads,
        length=length,
        head_dim=head_dim,
        sequences=len(offsets) - 1,
        kind=KINDS[kind],
        dtype=DTYPES[states[0].dtype],
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    loaded.osa_recurrence.argtypes, loaded.osa_recurrence.restype = [POINTER(Call)], c_int
    code = loaded.osa_recurrence(ctypes.byref(call))
    if code:
        raise InputError(f"osa_recurrence: {loaded.osa_attention_error(code).decode()}")
    return output
