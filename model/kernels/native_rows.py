"""What is done with float32 rows on CPUs, in one pass: bias and GELU; sum and LayerNorm; norms.

By the library of ``osa.model.kernels.native``; ``csrc/osa_rows.h`` specifies it. A row's bits do
not depend on other rows.

Shapes: n rows, D width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p

import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.errors import InputError
from osa.model.kernels import is_allowed
from osa.model.kernels.native import ABI_VERSION, library, parallel

ACTIVATE, ADD_AND_NORM, RMS_NORM, LAYER_NORM = range(4)


class Call(ctypes.Structure):
    """``OsaRowsCall`` of ``csrc/osa_rows.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("operation", c_int64),
        ("rows", c_void_p),
        ("added", c_void_p),
        ("bias", c_void_p),
        ("norm_weight", c_void_p),
        ("norm_bias", c_void_p),
        ("count", c_int64),
        ("width", c_int64),
        ("stride", c_int64),
        ("epsilon", c_float),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


def supports(states: Tensor) -> bool:
    """Whether states like these are handled: float32 on a CPU, without gradients or traces.

    Nor under autocast, where products of float32 give other types.
    """
    if states.is_cuda or states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return is_allowed("native") and not isinstance(library(), str)


def gelu_(rows: Float[Tensor, "*batch D"], bias: Tensor | None) -> Float[Tensor, "*batch D"]:
    """GELU(rows + bias), in place; contiguous, see ``supports``."""
    _run(ACTIVATE, rows, bias)
    return rows


def add_and_norm_(
    rows: Float[Tensor, "*batch D"],
    added: Float[Tensor, "*batch D"],
    bias: Tensor | None,
    norm: nn.LayerNorm,
) -> Float[Tensor, "*batch D"]:
    """LayerNorm(rows + added + bias), in place of ``rows``.

    Args:
        rows: Contiguous, see ``supports``.
        added: Of the same shape.
        bias: Added to every row, or None.
        norm: With a weight.
    """
    _run(ADD_AND_NORM, rows, bias, added.contiguous(), norm)
    return rows


def norm_(rows: Float[Tensor, "n D"], norm: nn.RMSNorm | nn.LayerNorm) -> None:
    """Normalise rows, in place; contiguous, see ``supports``."""
    _run(LAYER_NORM if isinstance(norm, nn.LayerNorm) else RMS_NORM, rows, None, None, norm)


def norm_call(norm: nn.RMSNorm | nn.LayerNorm, width: int) -> Call:
    """A norm of rows that a pass gives; see ``osa.model.kernels.native_pass``.

    Args:
        norm: With a weight [width]; its tensors must neither move nor end before the call does.
        width: D.
    """
    kind = LAYER_NORM if isinstance(norm, nn.LayerNorm) else RMS_NORM
    call = Call(ABI_VERSION, operation=kind, width=width)
    _set_norm(call, norm)
    return call


def _set_norm(call: Call, norm: nn.RMSNorm | nn.LayerNorm) -> None:
    call.norm_weight, call.epsilon = norm.weight.data_ptr(), norm.eps or 0.0
    bias = getattr(norm, "bias", None)
    if bias is not None:
        call.norm_bias = bias.data_ptr()


def _run(
    operation: int,
    rows: Tensor,
    bias: Tensor | None,
    added: Tensor | None = None,
    norm: nn.RMSNorm | nn.LayerNorm | None = None,
) -> None:
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    width = rows.shape[-1]
    _check(rows, rows.shape)
    for part, shape in ((added, rows.shape), (bias, (width,))):
        if part is not None:
            _check(part, shape)
    call = Call(
        ABI_VERSION,
        operation=operation,
        rows=rows.data_ptr(),
        count=rows.numel() // width,
        width=width,
        stride=width,
        threads=torch.get_num_threads(),
        parallel=parallel(),
    )
    if bias is not None:
        call.bias = bias.data_ptr()
    if added is not None:
        call.added = added.data_ptr()
    if norm is not None:
        _set_norm(call, norm)
    loaded.osa_rows.argtypes, loaded.osa_rows.restype = [POINTER(Call)], c_int
    code = loaded.osa_rows(ctypes.byref(call))
    if code:
        raise InputError(f"osa_rows: {loaded.osa_attention_error(code).decode()}")


def _check(part: Tensor, shape: Sequence[int]) -> None:
    """Refuse what the library would read beyond its end, or as other numbers.

    Raises:
        InputError: Type, shape or memory.
    """
    wrong = part.dtype != torch.float32 or part.is_cuda or not part.is_contiguous()
    if wrong or tuple(part.shape) != tuple(shape):
        raise InputError(
            f"rows must be float32 of shape {tuple(shape)}, contiguous, on a CPU; got {part.dtype} "
            f"of shape {tuple(part.shape)} and strides {part.stride()} on {part.device}"
        )
