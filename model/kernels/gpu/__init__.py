"""The operator in Triton kernels for GPUs: three stages over whole batches, padded or packed.

    reduce: G = M^T M, T = M^T V    ->    W = c J phi_1(c G J) T    ->    apply: Y = V + M W

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``; gradients in the closed form
of ``osa.model.functional.gradient``. What holds:

* nothing is read from the device by the host and workspaces follow from shapes, so calls can be
  captured in a CUDA graph;
* work is split by a sequence's own length alone: its bits do not depend on the batch around it;
* NaN in a sequence or in padding stays there;
* half-precision operands meet tensor cores with float32 sums, and stage two is float32 always.
  Where tokens are strongly correlated ||c G J|| is far above the angle of the scores and float32
  loses digits; other implementations turn to float64 there, this one does not.

``cu_seqlens`` are used unchecked: offsets that do not rise from 0 to T give undefined numbers, but
no access outside the operands. Triton is imported on first use, so this module costs nothing and
needs nothing where there is no GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
from collections.abc import Iterator

import torch
from torch import Tensor

from osa.model.config import Pooling
from osa.model.functional.completion import Terms
from osa.model.kernels import is_allowed

HEAD_DIMS = (32, 64, 128)
"""Widths of a head that there are tile sizes for."""
TENSOR_CORES = (8, 0)
"""Compute capability from which on Triton multiplies on tensor cores, and bfloat16 at all."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _has_compiler() -> bool:
    """Triton compiles what launches a kernel on the machine that runs it."""
    compilers = (os.environ.get("CC"), "gcc", "clang")
    return any(name is not None and shutil.which(name) for name in compilers)


@functools.cache
def _found_capability() -> tuple[int, int]:
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (99, 0)


_assumed: tuple[int, int] | None = None


def capability() -> tuple[int, int]:
    """Of this machine's CUDA device; where there is none, of one that can everything."""
    return _assumed or _found_capability()


@contextlib.contextmanager
def assumed_capability(found: tuple[int, int]) -> Iterator[None]:
    """Within the block choose types and tiles as for such a device; in one thread alone."""
    global _assumed  # of the process, as the device is
    before, _assumed = _assumed, found
    try:
        yield
    finally:
        _assumed = before


def unsupported(query: Tensor) -> str | None:
    """Why these kernels cannot take operands like ``query``, or None; it may lie on a CPU."""
    if query.shape[-1] not in HEAD_DIMS:
        widths = ", ".join(map(str, HEAD_DIMS))
        return f"takes heads of width {widths}, got {query.shape[-1]}"
    if query.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, got {query.dtype}"
    if query.dtype == torch.bfloat16 and capability() < TENSOR_CORES:
        return "takes bfloat16 from compute capability 8.0 on: use float16"
    if not _has_triton():
        return "needs triton, which is not installed"
    if not _has_compiler():
        return "needs a C compiler where it runs, and found neither gcc nor clang"
    return None


def pools(hidden: Tensor) -> bool:
    """Whether ``pool_packed`` takes these states: float32 on a CUDA device, without gradient."""
    if not (hidden.is_cuda and hidden.dtype == torch.float32) or hidden.requires_grad:
        return False
    return _has_triton() and _has_compiler() and is_allowed("triton")


def pool_packed(hidden: Tensor, how: Pooling, offsets: Tensor) -> Tensor:
    """One state [S, D] of each packed sequence of ``hidden`` [T, D]; bits as of that alone."""
    from osa.model.kernels.gpu.encoder.launches import pool_packed as pool
    from osa.model.kernels.gpu.launch import on_device

    with on_device(hidden):
        return pool(hidden.contiguous(), how, offsets.contiguous())


def completes(mixed: Tensor, value: Tensor) -> bool:
    """Whether ``complete`` takes such states: on a CUDA device, outside of a traced graph."""
    if not mixed.is_cuda or mixed.dtype != value.dtype or torch.compiler.is_compiling():
        return False
    return is_allowed("triton") and unsupported(mixed) is None


def complete(
    mixed: Tensor,
    value: Tensor,
    side: Tensor | None,
    by: Terms,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
) -> Tensor:
    """OSA's other terms (``osa.model.functional.completion``), with gradients.

    Args:
        mixed: exp(S) V [B, H, N, d]; changed in place where no gradients are recorded.
        value: Values.
        side: Logits and gates of the tokens [B, N, K H], or None where there are none.
        by: Weights of the terms, as the layer has them.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch, or None.
    """
    from osa.model.kernels.gpu.completion import function

    if torch.is_grad_enabled():
        return function.complete_with_gradients(mixed, value, side, by, mask, cu_seqlens)
    return function.complete_in_place(mixed, value, side, by, mask, cu_seqlens)


def attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> Tensor:
    """``osa::attention`` of checked operands; [B, H, N, d], in memory [B, N, H, d]."""
    from osa.model.kernels.gpu.forward import run_forward

    return run_forward(query, key, value, alpha, mask, cu_seqlens, scale, center)


def attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``osa::attention`` with respect to query, key, value and alpha."""
    from osa.model.kernels.gpu.backward import run_backward

    return run_backward(grad, query, key, value, alpha, mask, cu_seqlens, scale, center)
