"""The terms that complete OSA on packed batches, by the library of ``osa.model.kernels.native``.

``csrc/osa_attention.h`` specifies them (``OsaCompletion``). A sequence's result does not depend on
other sequences, bit for bit, nor on the number of threads.

Shapes: H heads, N tokens, D head width, R reach, K numbers that a token says of its own mixing.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels.native import (
    ABI_VERSION,
    DTYPES,
    MAX_HEAD_DIM,
    Call,
    CompletionCall,
    library,
    operand,
    parallel,
)


class Weights(NamedTuple):
    """Weights of one layer's terms, float32 and contiguous.

    Attributes:
        identity: Of the values [H].
        mixed: Of what exp(S) changes [H].
        pool: Of the pooled values [H], or None.
        taps: Of the neighbours [H, 2 R], or None.
        gated: Whether tokens have gates.
    """

    identity: Tensor
    mixed: Tensor
    pool: Tensor | None
    taps: Tensor | None
    gated: bool

    def call(self) -> CompletionCall:
        """Addresses of the weights, which must stay where they are while it is used."""
        return CompletionCall(
            identity=self.identity.data_ptr(),
            mixed=self.mixed.data_ptr(),
            pool=None if self.pool is None else self.pool.data_ptr(),
            taps=None if self.taps is None else self.taps.data_ptr(),
            reach=0 if self.taps is None else self.taps.shape[1] // 2,
            gated=int(self.gated),
        )

    def copied(self) -> Weights:
        """With tensors of its own."""
        identity, mixed, pool, taps, gated = self
        return Weights(
            identity.clone(),
            mixed.clone(),
            None if pool is None else pool.clone(),
            None if taps is None else taps.clone(),
            gated,
        )


def weights(
    identity: Float[Tensor, " H"],
    mixed: Float[Tensor, " H"],
    pool: Float[Tensor, " H"] | None,
    taps: Float[Tensor, "H R2"] | None,
    gated: bool,
) -> Weights:
    """Weights for the library.

    Args:
        identity: As in ``Weights``, and so are the others.
        mixed: See there.
        pool: See there.
        taps: See there.
        gated: See there.
    """

    def plain(part: Tensor) -> Tensor:
        return part.detach().float().contiguous()

    return Weights(
        plain(identity),
        plain(mixed),
        None if pool is None else plain(pool),
        None if taps is None else plain(taps),
        gated,
    )


def supports(mixed: Tensor, value: Tensor) -> bool:
    """Whether such states are completed: on a CPU, while no gradients are recorded."""
    if mixed.device.type != "cpu" or mixed.dtype not in DTYPES or mixed.dtype != value.dtype:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    dense = mixed.stride(-1) == value.stride(-1) == 1 and mixed.shape[-1] <= MAX_HEAD_DIM
    return dense and not isinstance(library(), str)


def complete_packed_(
    mixed: Float[Tensor, "1 H N D"],
    value: Float[Tensor, "1 H N D"],
    side: Float[Tensor, "1 N K"] | None,
    by: Weights,
    cu_seqlens: Int[Tensor, " S1"],
) -> Float[Tensor, "1 H N D"]:
    """Complete ``mixed`` in place.

    Args:
        mixed: exp(S) V; see ``supports``.
        value: Values.
        side: Logits and gates of the tokens, or None where there are none.
        by: Weights of the terms.
        cu_seqlens: Offsets of the sequences.

    Raises:
        InputError: No library, or offsets that do not fit.
    """
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    offsets = cu_seqlens.to("cpu", torch.int32).contiguous()
    completion = by.call()
    if side is not None:
        side = side[0].float().contiguous()
        completion.sides, completion.side_stride = side.data_ptr(), side.shape[1]
    call = Call(
        ABI_VERSION,
        value=operand(value),
        output=operand(mixed),
        cu_seqlens=offsets.data_ptr(),
        batch=1,
        heads=mixed.shape[1],
        length=mixed.shape[2],
        head_dim=mixed.shape[3],
        sequences=len(offsets) - 1,
        dtype=DTYPES[mixed.dtype],
        threads=torch.get_num_threads(),
        parallel=parallel(),
        completion=ctypes.pointer(completion),
    )
    loaded.osa_complete.argtypes, loaded.osa_complete.restype = [POINTER(Call)], c_int
    code = loaded.osa_complete(ctypes.byref(call))
    if code:
        raise InputError(f"osa_complete: {loaded.osa_attention_error(code).decode()}")
    return mixed
