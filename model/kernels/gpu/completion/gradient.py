"""Gradients of the terms that complete OSA, in closed form; names as in ``terms``.

    dX_i = s_i dY_i
    dV_i = (a_i - s_i) dY_i + w_i dP + sum over o of c_o dY_{i+o},   dP = sum_i m_i dY_i
    da_i = <dY_i, V_i>,   ds_i = <dY_i, X_i - V_i>,   dm_i = <dY_i, P>
    dlogit_i = w_i <dP, V_i - P>,   dc_o = sum_i <dY_i, V_{i-o}>

from the formula of ``osa.model.functional.completion``. What belongs to a head (a, s, m, c) is
summed over the tokens of a slot here and over the slots by the caller, in their order. Nothing but
P and the logarithm of its weights' sum is kept from the forward pass.

Workspaces, float32: sums [P, H, d] and pooled [S, H, d] of ``share_slots`` and ``add_slots``;
parts [P, H, 3 + 2 R] = what a slot adds to the gradients of a, s, m and c.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.completion.terms import (
    head_weights,
    load_neighbours,
    load_side,
    pool_weights,
)
from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.tokens import (
    first_slot,
    head_pointer,
    load_rows,
    locate_slot,
    sequence_span,
    store_rows,
    valid_rows,
)


@triton.jit(do_not_specialize=SIZES)
def share_slots(
    grad,
    grad_strides,
    sides,
    pool,
    sums,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    SIDES: tl.constexpr,
    GATED: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Sum of m_i dY_i over one slot and head."""
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(offsets, slot, num_sequences, length, total, CHUNK)
    if begin >= size:
        return
    base = head_pointer(grad, grad_strides, offsets, sequence, start, head)
    columns = tl.arange(0, D)
    added = tl.zeros([D], tl.float32)
    for place in range(begin, tl.minimum(begin + CHUNK, size), TILE):
        rows = place + tl.arange(0, TILE)
        valid = valid_rows(mask, rows, start, size)
        share, _ = pool_weights(pool, sides, rows, valid, start, heads, head, GATED, SIDES, TILE)
        tile = load_rows(base, grad_strides, rows, valid, columns, None).to(tl.float32)
        added += tl.sum(share[:, None] * tile, 0)
    tl.store(sums + (slot.to(tl.int64) * heads + head) * D + columns, added)


@triton.jit(do_not_specialize=SIZES)
def add_slots(
    sums,
    pooled,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """DP of a sequence and head: its slots, in their order."""
    head = tl.program_id(0) % heads
    sequence = tl.program_id(0) // heads
    start, size = sequence_span(offsets, sequence, length, total)
    if size <= 0:
        return
    slot = first_slot(offsets, sequence, start, length, CHUNK)
    columns = tl.arange(0, D)
    added = tl.zeros([D], tl.float32)
    for chunk in range(0, tl.cdiv(size, CHUNK)):
        source = (slot + chunk).to(tl.int64) * heads + head
        added += tl.load(sums + source * D + columns)
    tl.store(pooled + tl.program_id(0).to(tl.int64) * D + columns, added)


@triton.jit
def store_side(sides, place, rows, size, valid, values, start, heads, head, SIDES: tl.constexpr):
    """Store the gradient of a number that each token says of a head: zeros of padding."""
    cells = sides + (start + rows).to(tl.int64) * (SIDES * heads) + place * heads + head
    tl.store(cells, tl.where(valid, values, 0.0), mask=rows < size)


@triton.jit(do_not_specialize=SIZES)
def complete_gradients(
    grad,
    grad_strides,
    states,
    states_strides,
    value,
    value_strides,
    grad_states,
    grad_states_strides,
    grad_value,
    grad_value_strides,
    sides,
    grad_sides,
    identity,
    mixed,
    pool,
    taps,
    pooled,
    logs,
    grad_pooled,
    parts,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    SIDES: tl.constexpr,
    GATED: tl.constexpr,
    REACH: tl.constexpr,
    TILE: tl.constexpr,
):
    """Gradients of X, V and the tokens' numbers of one slot (of TILE tokens) and head; its parts.

    ``pool`` and ``taps`` may be None, and what belongs to them.
    """
    POOL: tl.constexpr = 0 if pool is None else 1
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(offsets, slot, num_sequences, length, total, TILE)
    if begin >= size:
        return
    columns = tl.arange(0, D)
    rows = begin + tl.arange(0, TILE)
    valid = valid_rows(mask, rows, start, size)
    y_base = head_pointer(grad, grad_strides, offsets, sequence, start, head)
    x_base = head_pointer(states, states_strides, offsets, sequence, start, head)
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    y = load_rows(y_base, grad_strides, rows, valid, columns, None).to(tl.float32)
    x = load_rows(x_base, states_strides, rows, valid, columns, None).to(tl.float32)
    v = load_rows(v_base, value_strides, rows, valid, columns, None).to(tl.float32)
    own, change, opened = head_weights(
        identity, mixed, sides, rows, valid, start, heads, head, POOL, GATED, SIDES, TILE
    )
    part = parts + (slot.to(tl.int64) * heads + head) * (3 + 2 * REACH)
    grad_own = tl.sum(y * v, 1)
    grad_change = tl.sum(y * (x - v), 1)
    tl.store(part, tl.sum(grad_own, 0))
    tl.store(part + 1, tl.sum(grad_change * opened, 0))
    if GATED:
        by = tl.load(mixed + head) * grad_change
        store_side(grad_sides, POOL, rows, size, valid, grad_own, start, heads, head, SIDES)
        store_side(grad_sides, POOL + 1, rows, size, valid, by, start, heads, head, SIDES)
    v_sum = (own - change)[:, None] * y
    if pool is not None:
        pair = sequence.to(tl.int64) * heads + head
        mean = tl.load(pooled + pair * D + columns)
        given = tl.load(grad_pooled + pair * D + columns)
        _, widened = pool_weights(pool, sides, rows, valid, start, heads, head, GATED, SIDES, TILE)
        grad_share = tl.sum(y * mean[None, :], 1)
        tl.store(part + 2, tl.sum(grad_share * widened, 0))
        logits = load_side(sides, 0, rows, valid, start, heads, head, SIDES)
        weights = tl.where(valid, tl.exp(logits - tl.load(logs + pair)), 0.0)
        v_sum += weights[:, None] * given[None, :]
        by = weights * tl.sum(given[None, :] * (v - mean[None, :]), 1)
        store_side(grad_sides, 0, rows, size, valid, by, start, heads, head, SIDES)
        if GATED:
            by = tl.load(pool + head) * grad_share
            store_side(grad_sides, 3, rows, size, valid, by, start, heads, head, SIDES)
    if taps is not None:
        for place in range(0, 2 * REACH):
            offset = place - REACH + tl.where(place >= REACH, 1, 0)
            near = load_neighbours(v_base, value_strides, mask, rows - offset, start, size, columns)
            tl.store(part + 3 + place, tl.sum(tl.sum(y * near, 1), 0))
            near = load_neighbours(y_base, grad_strides, mask, rows + offset, start, size, columns)
            v_sum += tl.load(taps + head * 2 * REACH + place) * near
    target = head_pointer(grad_states, grad_states_strides, offsets, sequence, start, head)
    store_rows(target, grad_states_strides, rows, size, valid, change[:, None] * y, D)
    target = head_pointer(grad_value, grad_value_strides, offsets, sequence, start, head)
    store_rows(target, grad_value_strides, rows, size, valid, v_sum, D)
