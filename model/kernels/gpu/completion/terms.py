"""The terms that complete OSA, on the device: pooled values, neighbours, gates.

    Y_i = (a_i - s_i) V_i + s_i X_i + m_i P + sum over 0 < |o| <= R of c_o V_{i-o}
    P = sum_j w_j V_j,   w = softmax of the logits of a sequence

with X = exp(S) V of ``apply`` and ``short``; the formula of ``osa.model.functional.completion``. A
token says K numbers of each head (``sides`` [tokens, K, H], float32): its logit where there is a
pool, then gates of a, s and m. Slots of CHUNK tokens (see ``tokens``) are pooled by one program
each and added in their order, so a sequence's bits do not depend on the batch around it.

Workspaces (P slots, S sequences, H heads, d head width), all float32:
    sums [P, H, d], peaks [P, H, 2]   of a slot: weighted values; the largest logit, sum of weights
    pooled [S, H, d], logs [S, H]     of a sequence: P; logarithm of the sum of exponentials
"""

from __future__ import annotations

import triton
import triton.language as tl

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


@triton.jit
def load_side(sides, place, rows, valid, start, heads, head, SIDES: tl.constexpr):
    """The number at ``place`` that each token says of a head; 0 where not valid."""
    cells = sides + (start + rows).to(tl.int64) * (SIDES * heads) + place * heads + head
    return tl.load(cells, mask=valid, other=0.0)


@triton.jit(do_not_specialize=SIZES)
def pool_slots(
    value,
    value_strides,
    sides,
    sums,
    peaks,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    SIDES: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Values of one slot and head, weighted by the exponentials of their logits."""
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(offsets, slot, num_sequences, length, total, CHUNK)
    if begin >= size:
        return
    base = head_pointer(value, value_strides, offsets, sequence, start, head)
    whole = begin + tl.arange(0, CHUNK)
    there = valid_rows(mask, whole, start, size)
    every = load_side(sides, 0, whole, there, start, heads, head, SIDES)
    peak = tl.max(tl.where(there, every, float("-inf")), 0)
    columns = tl.arange(0, D)
    total_weight = 0.0
    added = tl.zeros([D], tl.float32)
    for place in range(begin, tl.minimum(begin + CHUNK, size), TILE):
        rows = place + tl.arange(0, TILE)
        valid = valid_rows(mask, rows, start, size)
        logits = load_side(sides, 0, rows, valid, start, heads, head, SIDES)
        weights = tl.where(valid, tl.exp(logits - peak), 0.0)
        tile = load_rows(base, value_strides, rows, valid, columns, None).to(tl.float32)
        total_weight += tl.sum(weights, 0)
        added += tl.sum(weights[:, None] * tile, 0)
    target = slot.to(tl.int64) * heads + head
    tl.store(peaks + 2 * target, peak)
    tl.store(peaks + 2 * target + 1, total_weight)
    tl.store(sums + target * D + columns, added)


@triton.jit(do_not_specialize=SIZES)
def pool_values(
    sums,
    peaks,
    pooled,
    logs,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """P of a sequence and head from its slots; nothing of an empty one, zeros of padding alone."""
    head = tl.program_id(0) % heads
    sequence = tl.program_id(0) // heads
    start, size = sequence_span(offsets, sequence, length, total)
    if size <= 0:
        return
    slot = first_slot(offsets, sequence, start, length, CHUNK)
    chunks = tl.cdiv(size, CHUNK)
    largest = float("-inf")
    for chunk in range(0, chunks):
        source = (slot + chunk).to(tl.int64) * heads + head
        largest = tl.maximum(largest, tl.load(peaks + 2 * source))
    columns = tl.arange(0, D)
    total_weight = 0.0
    added = tl.zeros([D], tl.float32)
    for chunk in range(0, chunks):
        source = (slot + chunk).to(tl.int64) * heads + head
        peak = tl.load(peaks + 2 * source)
        # a slot of padding alone has no largest logit
        scale = tl.where(peak == float("-inf"), 0.0, tl.exp(peak - largest))
        total_weight += scale * tl.load(peaks + 2 * source + 1)
        added += scale * tl.load(sums + source * D + columns)
    pair = tl.program_id(0).to(tl.int64)
    found = tl.where(total_weight == 0.0, 0.0, added / total_weight)
    tl.store(pooled + pair * D + columns, found)
    tl.store(logs + pair, largest + tl.log(total_weight))


@triton.jit
def head_weights(
    identity,
    mixed,
    sides,
    rows,
    valid,
    start,
    heads,
    head,
    POOL: tl.constexpr,
    GATED: tl.constexpr,
    SIDES: tl.constexpr,
    TILE: tl.constexpr,
):
    """The weights a_i and s_i of the tokens of a tile, and 1 + their gate of s [TILE]."""
    own = tl.zeros([TILE], tl.float32) + tl.load(identity + head)
    opened = tl.full([TILE], 1.0, tl.float32)
    if GATED:
        own += load_side(sides, POOL, rows, valid, start, heads, head, SIDES)
        opened += load_side(sides, POOL + 1, rows, valid, start, heads, head, SIDES)
    return own, tl.load(mixed + head) * opened, opened


@triton.jit
def pool_weights(
    pool,
    sides,
    rows,
    valid,
    start,
    heads,
    head,
    GATED: tl.constexpr,
    SIDES: tl.constexpr,
    TILE: tl.constexpr,
):
    """The weights m_i of the tokens of a tile, and 1 + their gate [TILE]."""
    opened = tl.full([TILE], 1.0, tl.float32)
    if GATED:
        opened += load_side(sides, 3, rows, valid, start, heads, head, SIDES)
    return tl.load(pool + head) * opened, opened


@triton.jit
def load_neighbours(base, strides, mask, rows, start, size, columns):
    """Rows of a tile that may lie outside the sequence or be padding: those are 0."""
    inside = (rows >= 0) & valid_rows(mask, tl.maximum(rows, 0), start, size)
    return load_rows(base, strides, rows, inside, columns, None).to(tl.float32)


@triton.jit(do_not_specialize=SIZES)
def complete_rows(
    states,
    states_strides,
    value,
    value_strides,
    output,
    output_strides,
    sides,
    identity,
    mixed,
    pool,
    taps,
    pooled,
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
    """Y of one slot (of TILE tokens) and head; ``output`` may be ``states`` = X.

    ``pool`` and ``taps`` may be None. Padding comes out zero.
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
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    x_base = head_pointer(states, states_strides, offsets, sequence, start, head)
    v = load_rows(v_base, value_strides, rows, valid, columns, None).to(tl.float32)
    x = load_rows(x_base, states_strides, rows, valid, columns, None).to(tl.float32)
    own, change, _ = head_weights(
        identity, mixed, sides, rows, valid, start, heads, head, POOL, GATED, SIDES, TILE
    )
    result = (own - change)[:, None] * v + change[:, None] * x
    if pool is not None:
        share, _ = pool_weights(pool, sides, rows, valid, start, heads, head, GATED, SIDES, TILE)
        pair = sequence.to(tl.int64) * heads + head
        result += share[:, None] * tl.load(pooled + pair * D + columns)[None, :]
    if taps is not None:
        for place in range(0, 2 * REACH):
            offset = place - REACH + tl.where(place >= REACH, 1, 0)
            near = load_neighbours(v_base, value_strides, mask, rows - offset, start, size, columns)
            result += tl.load(taps + head * 2 * REACH + place) * near
    target = head_pointer(output, output_strides, offsets, sequence, start, head)
    store_rows(target, output_strides, rows, size, valid, result, D)
