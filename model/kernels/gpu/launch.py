"""From tensors to kernel arguments: layout of a batch, workspaces, and the one place of launching.

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from osa.model.kernels import gpu
from osa.model.kernels.gpu import reduce, tuning

MAX_PROGRAMS = 264
"""Programs that run persistently: two for each multiprocessor of an H100 or H200 (132)."""
INTERPRETED = not isinstance(reduce.reduce_products, triton.JITFunction)
"""Whether TRITON_INTERPRET is set: it cannot multiply bfloat16, so operands are widened."""
Operand = tuple[Tensor, tuple[int, int, int]]
"""A [B, H, N, d] view and its strides of batch, head and token."""


@dataclass(frozen=True)
class Known:
    """What a caller knows of a packed batch on the host; by default nothing.

    Attributes:
        shortest: At most the length of its shortest sequence [tokens].
        longest: At least that of its longest [tokens]; 0 where that is not known.
        may_double: Whether the angle of a sequence may be beyond ``series.DOUBLING_ANGLE``.
    """

    shortest: int = 0
    longest: int = 0
    may_double: bool = True


@dataclass(frozen=True)
class Batch:
    """Sequences as kernels see them.

    Attributes:
        mask: Bytes [B * N], not 0 at real tokens; None where all are.
        offsets: [S + 1] of a packed batch; None for a padded one.
        heads: H.
        num_sequences: S.
        length: N, the tokens of every sequence of a padded batch.
        total: Tokens of the whole batch.
    """

    mask: Tensor | None
    offsets: Tensor | None
    heads: int
    num_sequences: int
    length: int
    total: int

    @property
    def pairs(self) -> int:
        """Sequences times heads."""
        return self.num_sequences * self.heads

    def slots(self, chunk: int) -> int:
        """Upper bound of the pieces of ``chunk`` tokens; see ``tokens`` for why it is enough."""
        if self.offsets is None:
            return self.num_sequences * -(-self.length // chunk)
        return self.total // chunk + self.num_sequences

    @property
    def spans(self) -> tuple[Any, ...]:
        """Arguments that say where sequences lie."""
        return self.offsets, self.heads, self.num_sequences, self.length, self.total

    @property
    def tokens(self) -> tuple[Any, ...]:
        """Arguments that say where sequences lie and what of them is padding."""
        return self.mask, *self.spans


def batch_of(query: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None) -> Batch:
    """Layout of a batch; reads shapes only."""
    rows, heads, length, _ = query.shape
    flat = None if mask is None else mask.contiguous().view(torch.uint8)
    if cu_seqlens is None:
        return Batch(flat, None, heads, rows, length, rows * length)
    return Batch(flat, cu_seqlens.contiguous(), heads, len(cu_seqlens) - 1, length, length)


def operand(states: Tensor) -> Operand:
    """Any view as it is, unless its features do not lie side by side."""
    if states.stride(-1) != 1:
        states = states.contiguous()
    return states, (states.stride(0), states.stride(1), states.stride(2))


def empty_token_major(like: Tensor) -> Tensor:
    """Uninitialized [B, H, N, d], in memory [B, N, H, d]."""
    batch, heads, length, width = like.shape
    return like.new_empty(batch, length, heads, width).transpose(1, 2)


def workspace(like: Tensor, *shape: int) -> Tensor:
    """Uninitialized float32 numbers on the device of ``like``."""
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def weight_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which stage three gets its matrices.

    Gradients of them can pass the range of float16, and tensor cores multiply float16 numbers as
    well as TF32: so float16 gets float32 matrices.
    """
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32


def reduce_type(dtype: torch.dtype) -> Any:
    """Type in which stage one multiplies."""
    half = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    widens = INTERPRETED or gpu.capability() < gpu.TENSOR_CORES
    return tl.float32 if widens else half.get(dtype, tl.float32)


def apply_type(dtype: torch.dtype) -> Any:
    """Type in which stage three multiplies."""
    return tl.bfloat16 if dtype == torch.bfloat16 and not INTERPRETED else tl.float32


Launch = Callable[..., None]
_instead: Launch | None = None


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Run ``programs`` programs of ``kernel``: the one way to the device."""
    if _instead is not None:
        _instead(kernel, programs, *arguments, **constants)
    else:
        kernel[(programs,)](*arguments, **constants)


@contextlib.contextmanager
def launching_by(function: Launch) -> Iterator[None]:
    """Within the block call ``function`` with what would be launched; in one thread alone."""
    global _instead  # one way to the device, so one place to change it
    before, _instead = _instead, function
    try:
        yield
    finally:
        _instead = before


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Launch on the device of ``tensor``, whichever is current."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def tuning_of(query: Tensor) -> tuning.Tuning:
    """Tile sizes for operands like ``query``, on this device."""
    tunings = tuning.TURING if gpu.capability() < gpu.TENSOR_CORES else tuning.TUNINGS
    return tunings[query.dtype][query.shape[-1]]
