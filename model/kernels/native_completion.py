"""Completed OSA in one call, by the library of ``osa.model.kernels.native``.

``csrc/osa_attention.h`` specifies them (``OsaCompletion``). A sequence's result does not depend on
other sequences, bit for bit, nor on the number of threads.

Shapes: H heads, N tokens, D head width, R reach, K numbers that a token says of its own mixing.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.functional.completion import Terms
from osa.model.kernels import native
from osa.model.kernels.native import CompletionCall


class Weights(Terms):
    """Weights of one layer's terms, float32 and contiguous."""

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


def weights(terms: Terms) -> Weights:
    """Weights for the library."""

    def plain(part: Tensor) -> Tensor:
        return part.detach().float().contiguous()

    identity, mixed, pool, taps, gated = terms
    return Weights(
        plain(identity),
        plain(mixed),
        None if pool is None else plain(pool),
        None if taps is None else plain(taps),
        gated,
    )


def attention_forward(
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    side: Float[Tensor, "B N K"] | None,
    terms: Terms,
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, " S1"] | None,
    scale: str,
    center: bool,
) -> Float[Tensor, "B H N D"]:
    """Completed attention in one call of the library, of checked and supported operands.

    Args:
        operands: Queries, keys and values [B, H, N, D], and the angles [H].
        side: Logits and gates of the tokens, or None where there are none.
        terms: Weights of the terms.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch, or None.
        scale: One of ``SCALES``.
        center: Whether means of queries and keys are subtracted.

    Raises:
        InputError: ``cu_seqlens`` do not delimit the packed tokens, or memory is exhausted.
    """
    by = weights(terms)  # the call has addresses only
    completion = by.call()
    if side is not None:
        side = side.float().contiguous()
        completion.sides, completion.side_stride = side.data_ptr(), side.shape[2]
    return native.attention_forward(*operands, mask, cu_seqlens, scale, center, completion)
