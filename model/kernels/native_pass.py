"""A pass through all blocks of an encoder in one call of the CPU kernel.

Between the first block and the last the interpreter is not needed: other threads may have it, and
small batches are not slowed down by it. ``csrc/osa_pass.h`` specifies it.

Shapes: T tokens, D hidden (padded), H heads, d head width.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Sequence
from ctypes import POINTER, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.errors import InputError
from osa.model.kernels import native, native_rows, native_softmax
from osa.model.kernels.native import ABI_VERSION, DTYPES, SCALES, library, parallel
from osa.model.kernels.native_block import STATES, Shape, Transform
from osa.model.kernels.native_completion import Weights

TRANSFORM, ATTENTION, SOFTMAX, ROWS = range(4)
Rotary = tuple[Float[Tensor, "T half"], Float[Tensor, "T half"]]


class _Step(ctypes.Structure):
    """``OsaStep`` of ``csrc/osa_pass.h``, field by field."""

    _fields_ = (("kind", c_int64), ("call", c_void_p), ("positions", c_int64))


class _Batch(ctypes.Structure):
    """``OsaBatch`` of ``csrc/osa_pass.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("hidden", c_void_p),
        ("states", c_void_p),
        ("mixed", c_void_p),
        ("sides", c_void_p),
        ("cu_seqlens", c_void_p),
        ("cosine", c_void_p * 2),
        ("sine", c_void_p * 2),
        ("bias", c_void_p),
        ("reach", c_int64),
        ("bias_row", c_int64),
        ("rows", c_int64),
        ("width", c_int64),
        ("side_width", c_int64),
        ("sequences", c_int64),
        ("threads", c_int32),
        ("parallel", c_void_p),
    )


class OsaMixing(NamedTuple):
    """Orthogonal Self-Attention of one layer.

    Attributes:
        alpha: Angles in float32 [H].
        scale: ``paper`` or ``length``.
        center: Whether means of queries and keys are subtracted.
        completion: Weights of the terms that complete it, or None.
    """

    alpha: Tensor
    scale: str
    center: bool
    completion: Weights | None = None


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
        states: Memory for queries, keys and values [T, 3, D], each of heads side by side.
        mixed: Memory for mixed heads [T, H, d].
        sides: Memory for what tokens say of their own mixing [T, K], or None.
        offsets: Of the sequences, int32 [S + 1].
        rotary: Positions of the tokens, and those of layers that look around them alone.
        bias: Of softmax scores by distance [H, 2 R - 1], R the longest sequence or more; or None.
    """

    hidden: Float[Tensor, "T D"]
    states: Float[Tensor, "T 3 D"]
    mixed: Float[Tensor, "T H d"]
    sides: Float[Tensor, "T K"] | None
    offsets: Int[Tensor, " S1"]
    rotary: tuple[Rotary | None, Rotary | None]
    bias: Float[Tensor, "H R2"] | None


class Pass:
    """The steps of an encoder, with all that stays from batch to batch."""

    def __init__(
        self,
        shape: Shape,
        transforms: Sequence[Transform],
        layers: Sequence[tuple[Mixing, bool]],
        norm: nn.RMSNorm | nn.LayerNorm | None,
    ) -> None:
        """Note all addresses but those of one batch; what they point to is copied and kept.

        Args:
            shape: Of the encoder.
            transforms: One more than there are blocks.
            layers: Of each block what mixes its heads, and whether that looks around tokens alone.
            norm: Of the last block's rows, or None.
        """
        norm = copy.deepcopy(norm)
        mixings = [(_copied(mixing), local) for mixing, local in layers]
        self._kept = (transforms, mixings, norm)
        steps: list[tuple[int, ctypes.Structure, int]] = []
        for transform, (mixing, local) in zip(transforms, mixings, strict=False):
            steps += [(TRANSFORM, transform.template, int(local)), (*_mix(shape, mixing), -1)]
        steps.append((TRANSFORM, transforms[-1].template, -1))
        if norm is not None:
            steps.append((ROWS, native_rows.norm_call(norm, shape.features), -1))
        self._calls = [call for _, call, _ in steps]
        found = (_Step(kind, ctypes.addressof(call), place) for kind, call, place in steps)
        self._steps = (_Step * len(steps))(*found)

    def run(self, batch: Batch) -> None:
        """Compute all steps: ``batch.hidden`` becomes what the last one gives.

        Raises:
            InputError: No library, unsupported sizes, or memory is exhausted.
        """
        loaded = library()
        if isinstance(loaded, str):
            raise InputError(f"the CPU kernel {loaded}")
        rows, width = batch.hidden.shape
        call = _Batch(
            ABI_VERSION,
            hidden=batch.hidden.data_ptr(),
            states=batch.states.data_ptr(),
            mixed=batch.mixed.data_ptr(),
            cu_seqlens=batch.offsets.data_ptr(),
            rows=rows,
            width=width,
            sequences=len(batch.offsets) - 1,
            threads=torch.get_num_threads(),
            parallel=parallel(),
        )
        if batch.sides is not None:
            call.sides, call.side_width = batch.sides.data_ptr(), batch.sides.shape[1]
        for place, rotary in enumerate(batch.rotary):
            if rotary is not None:
                call.cosine[place], call.sine[place] = (part.data_ptr() for part in rotary)
        bias = None
        if batch.bias is not None:
            bias = F.pad(batch.bias.detach().float(), (0, native_softmax.BIAS_MARGIN)).contiguous()
            call.bias, call.bias_row = bias.data_ptr(), bias.shape[1]
            call.reach = (batch.bias.shape[1] + 1) // 2
        loaded.osa_run.argtypes = [POINTER(_Step), c_int64, POINTER(_Batch)]
        loaded.osa_run.restype = c_int
        code = loaded.osa_run(self._steps, len(self._steps), ctypes.byref(call))
        if code:
            raise InputError(f"osa_run: {loaded.osa_attention_error(code).decode()}")


def _copied(mixing: Mixing) -> Mixing:
    """With tensors of its own, which stay where they are whatever becomes of the module's."""
    if not isinstance(mixing, OsaMixing):
        return mixing
    completion = None if mixing.completion is None else mixing.completion.copied()
    return mixing._replace(alpha=mixing.alpha.clone(), completion=completion)


def _mix(shape: Shape, mixing: Mixing) -> tuple[int, ctypes.Structure]:
    """The step of one layer's attention, without a batch."""
    head_dim = shape.features // shape.heads
    sizes = {"heads": shape.heads, "head_dim": head_dim, "dtype": DTYPES[STATES[shape.dtype]]}
    if isinstance(mixing, OsaMixing):
        call = native.Call(
            ABI_VERSION,
            batch=1,
            alpha=mixing.alpha.data_ptr(),
            scale=SCALES[mixing.scale],
            center=int(mixing.center),
            **sizes,
        )
        if mixing.completion is not None:
            call.completion = ctypes.pointer(mixing.completion.call())
        return ATTENTION, call
    window = -1 if mixing.window is None else mixing.window
    return SOFTMAX, native_softmax.Call(
        ABI_VERSION, window=window, scale=1.0 / math.sqrt(head_dim), **sizes
    )
