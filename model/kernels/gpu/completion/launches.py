"""From tensors to launches of the terms that complete OSA and of their gradients.

Shapes: B batch, H heads, N tokens, d head width, K numbers that a token says of a head, R reach,
P slots, S sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from osa.model.functional.completion import Terms
from osa.model.kernels.gpu import launch as launching
from osa.model.kernels.gpu import tuning
from osa.model.kernels.gpu.completion import gradient, terms
from osa.model.kernels.gpu.launch import (
    Batch,
    Operand,
    batch_of,
    empty_token_major,
    operand,
    workspace,
)

TILE = 64
"""Most tokens of one program, and those that a pool sums at once."""


def _tile(width: int) -> int:
    """Tokens of one program: half as many where heads are 128 wide, for its registers."""
    return min(TILE, 4096 // width)


def reach_of(by: Terms) -> int:
    """Neighbours on either side."""
    return 0 if by.taps is None else by.taps.shape[1] // 2


class Pool(NamedTuple):
    """Pooled values of every sequence and head.

    Attributes:
        values: P [S, H, d].
        logs: Logarithms of the sums of exponentials of the logits [S, H].
    """

    values: Tensor
    logs: Tensor


def complete(
    mixed: Tensor,
    value: Tensor,
    sides: Tensor | None,
    by: Terms,
    mask: Tensor | None,
    offsets: Tensor | None,
    output: Tensor | None = None,
) -> tuple[Tensor, Pool | None]:
    """Complete a mixing: [B, H, N, d] in the type of ``mixed``, and what gradients need.

    Args:
        mixed: exp(S) V.
        value: Values, of the same type.
        sides: What tokens say, float32 [B, N, K H]; None where they say nothing.
        by: Terms.
        mask: Bool [B, N] of a padded batch, or None.
        offsets: Of a packed batch [S + 1], or None.
        output: Where the result goes, ``mixed`` perhaps; default is new memory.
    """
    batch = batch_of(mixed, mask, offsets)
    output = empty_token_major(mixed) if output is None else output
    if not mixed.numel() or not batch.num_sequences:
        return output, None
    width = mixed.shape[-1]
    sides = None if sides is None else sides.contiguous()
    with launching.on_device(mixed):
        x, v, target = operand(mixed), operand(value), operand(output)
        pool = None
        if by.pool is not None:
            assert sides is not None  # the pool's logits
            pool = _pooled(batch, v, sides, by)
        tile = _tile(width)
        launching.launch(
            terms.complete_rows,
            batch.slots(tile) * batch.heads,
            *(*x, *v, *target, sides, *by[:4]),
            *(None if pool is None else pool.values, *batch.tokens),
            D=width,
            SIDES=by.num_sides,
            GATED=by.gated,
            REACH=reach_of(by),
            TILE=tile,
        )
    return output, pool


def _pooled(batch: Batch, value: Operand, sides: Tensor, by: Terms) -> Pool:
    states, chunk = value[0], tuning.CHUNK
    width, slots = states.shape[-1], batch.slots(chunk)
    sums = workspace(states, slots, batch.heads, width)
    peaks = workspace(states, slots, batch.heads, 2)
    launching.launch(
        terms.pool_slots,
        slots * batch.heads,
        *(*value, sides, sums, peaks, *batch.tokens),
        D=width,
        SIDES=by.num_sides,
        CHUNK=chunk,
        TILE=TILE,
    )
    pooled = workspace(states, batch.num_sequences, batch.heads, width)
    logs = workspace(states, batch.num_sequences, batch.heads)
    launching.launch(
        terms.pool_values,
        batch.pairs,
        *(sums, peaks, pooled, logs, *batch.spans),
        D=width,
        CHUNK=chunk,
    )
    return Pool(pooled, logs)


class Gradients(NamedTuple):
    """Gradients with respect to what ``complete`` took; None where that was None."""

    mixed: Tensor
    value: Tensor
    sides: Tensor | None
    identity: Tensor
    weight: Tensor
    pool: Tensor | None
    taps: Tensor | None


def complete_backward(
    grad: Tensor,
    mixed: Tensor,
    value: Tensor,
    sides: Tensor | None,
    by: Terms,
    pool: Pool | None,
    mask: Tensor | None,
    offsets: Tensor | None,
) -> Gradients:
    """Gradients of ``complete``; those of weights are float32.

    Args:
        grad: With respect to its result.
        mixed: As it took, and so are the others.
        value: See there.
        sides: See there.
        by: See there.
        pool: What it returned beside the result.
        mask: See there.
        offsets: See there.
    """
    batch = batch_of(mixed, mask, offsets)
    grad_mixed, grad_value = empty_token_major(mixed), empty_token_major(value)
    sides = None if sides is None else sides.contiguous()
    grad_sides = None if sides is None else torch.empty_like(sides)
    tile, reach = _tile(mixed.shape[-1]), reach_of(by)
    slots = batch.slots(tile)
    parts = torch.zeros(slots, batch.heads, 3 + 2 * reach, device=mixed.device)
    if mixed.numel() and batch.num_sequences:
        width = mixed.shape[-1]
        with launching.on_device(mixed):
            y, x, v = operand(grad.to(mixed.dtype)), operand(mixed), operand(value)
            grad_pool = None
            if pool is not None:
                assert sides is not None  # the pool's logits
                grad_pool = _share(batch, y, sides, by)
            launching.launch(
                gradient.complete_gradients,
                slots * batch.heads,
                *(*y, *x, *v, *operand(grad_mixed), *operand(grad_value), sides, grad_sides),
                *by[:4],
                *((None, None) if pool is None else pool),
                *(grad_pool, parts, *batch.tokens),
                D=width,
                SIDES=by.num_sides,
                GATED=by.gated,
                REACH=reach,
                TILE=tile,
            )
    sums = parts.sum(0)
    return Gradients(
        grad_mixed,
        grad_value,
        grad_sides,
        sums[:, 0],
        sums[:, 1],
        None if by.pool is None else sums[:, 2],
        None if by.taps is None else sums[:, 3:],
    )


def _share(batch: Batch, grad: Operand, sides: Tensor, by: Terms) -> Tensor:
    """DP [S, H, d]."""
    states, chunk = grad[0], tuning.CHUNK
    width, slots = states.shape[-1], batch.slots(chunk)
    sums = workspace(states, slots, batch.heads, width)
    launching.launch(
        gradient.share_slots,
        slots * batch.heads,
        *(*grad, sides, by.pool, sums, *batch.tokens),
        D=width,
        SIDES=by.num_sides,
        GATED=by.gated,
        CHUNK=chunk,
        TILE=TILE,
    )
    pooled = workspace(states, batch.num_sequences, batch.heads, width)
    launching.launch(
        gradient.add_slots, batch.pairs, *(sums, pooled, *batch.spans), D=width, CHUNK=chunk
    )
    return pooled
