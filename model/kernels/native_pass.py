"""A pass through all blocks of an encoder in one call of the CPU kernel.

Between the first block and the last the interpreter is not needed: other threads may have it, and
small batches are not slowed down by it. ``csrc/osa_pass.h`` specifies it.

Shapes: T tokens, D hidden (padded), H heads, d head width.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import POINTER, c_int, c_int64, c_void_p
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import native, native_softmax
from osa.model.kernels.native import ABI_VERSION, DTYPES, SCALES, Operand, library, parallel
from osa.model.kernels.native_block import Transform

TRANSFORM, ATTENTION, SOFTMAX = 0, 1, 2
Rotary = tuple[Float[Tensor, "T half"], Float[Tensor, "T half"]]


class _Step(ctypes.Structure):
    """``OsaStep`` of ``csrc/osa_pass.h``, field by field."""

    _fields_ = (("kind", c_int64), ("call", c_void_p))


class OsaMixing(NamedTuple):
    """Orthogonal Self-Attention of one layer.

    Attributes:
        alpha: Angles in float32 [H].
        scale: ``paper`` or ``length``.
        center: Whether means of queries and keys are subtracted.
    """

    alpha: Tensor
    scale: str
    center: bool


class SoftmaxMixing(NamedTuple):
    """Softmax attention of one layer.

    Attributes:
        window: Largest distance of a key from its query; None for no limit.
    """

    window: int | None


Mixing = OsaMixing | SoftmaxMixing
"""What mixes the heads of a layer, where the library has it."""


class Batch(NamedTuple):
    """Tensors of one packed batch; all contiguous.

    Attributes:
        hidden: Residual stream [T, D], float32.
        states: Queries, keys and values [T, 3, D], each of heads side by side.
        mixed: Mixed heads [T, H, d].
        offsets: Of the sequences, int32 [S + 1].
        bias: Of softmax scores by distance [H, 2 R - 1], R the longest sequence or more; or None.
    """

    hidden: Float[Tensor, "T D"]
    states: Float[Tensor, "T 3 D"]
    mixed: Float[Tensor, "T H d"]
    offsets: Int[Tensor, " S1"]
    bias: Float[Tensor, "H R2"] | None


def run(
    transforms: Sequence[Transform],
    mixings: Sequence[Mixing],
    rotaries: Sequence[Rotary | None],
    batch: Batch,
) -> None:
    """Compute all blocks: ``batch.hidden`` becomes what the last one gives.

    Args:
        transforms: One more than there are blocks.
        mixings: Of each block.
        rotaries: Positions of each block's tokens.
        batch: The packed batch.

    Raises:
        InputError: No library, unsupported sizes, or memory is exhausted.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    bias = None if batch.bias is None else _with_margin(batch.bias)
    packed = _Packed(batch)
    steps: list[tuple[int, ctypes.Structure]] = []
    before = None
    for transform, mixing, rotary in zip(transforms, mixings, rotaries, strict=False):
        call = transform.call(batch.hidden, before, batch.states, rotary)
        steps += [(TRANSFORM, call), _mix(mixing, packed, bias)]
        before = batch.mixed
    last = transforms[-1].call(batch.hidden, before, batch.states, None)
    steps.append((TRANSFORM, last))
    array = (_Step * len(steps))(*(_Step(kind, ctypes.addressof(call)) for kind, call in steps))
    loaded.osa_run.argtypes, loaded.osa_run.restype = [POINTER(_Step), c_int64], c_int
    code = loaded.osa_run(array, len(steps))
    if code:
        raise InputError(f"osa_run: {loaded.osa_attention_error(code).decode()}")


def _with_margin(bias: Tensor) -> Tensor:
    return F.pad(bias.detach().float(), (0, native_softmax.BIAS_MARGIN)).contiguous()


class _Packed:
    """What the attention of every layer is told of a batch.

    Attributes:
        parts: Queries, keys, values and mixed heads.
        head_dim: d.
        fields: Fields of both kinds of calls.
    """

    def __init__(self, batch: Batch) -> None:
        """Read addresses and sizes."""
        states, mixed = batch.states, batch.mixed
        length, heads, head_dim = mixed.shape
        start, step = states.data_ptr(), states.element_size() * states.stride(1)
        self.parts = [
            *(Operand(start + step * part, 0, head_dim, states.stride(0)) for part in range(3)),
            Operand(mixed.data_ptr(), 0, head_dim, mixed.stride(0)),
        ]
        self.head_dim = head_dim
        self.fields = {
            "cu_seqlens": batch.offsets.data_ptr(),
            "heads": heads,
            "length": length,
            "head_dim": head_dim,
            "sequences": len(batch.offsets) - 1,
            "dtype": DTYPES[states.dtype],
            "threads": torch.get_num_threads(),
            "parallel": parallel(),
        }


def _mix(mixing: Mixing, packed: _Packed, bias: Tensor | None) -> tuple[int, ctypes.Structure]:
    """The step of one layer's attention."""
    if isinstance(mixing, OsaMixing):
        return ATTENTION, native.Call(
            ABI_VERSION,
            *packed.parts,
            batch=1,
            alpha=mixing.alpha.data_ptr(),
            scale=SCALES[mixing.scale],
            center=int(mixing.center),
            **packed.fields,
        )
    call = native_softmax.Call(
        ABI_VERSION,
        *packed.parts,
        window=-1 if mixing.window is None else mixing.window,
        scale=1.0 / math.sqrt(packed.head_dim),
        **packed.fields,
    )
    if bias is not None:
        call.bias, call.bias_row = bias.data_ptr(), bias.shape[1]
        call.reach = (bias.shape[1] - native_softmax.BIAS_MARGIN + 1) // 2
    return SOFTMAX, call
