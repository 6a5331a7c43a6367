"""Stage one on the device: means, and the products of every sequence, summed over its tokens.

    G = M^T M,   T = M^T V,   dW = M^T dY,   M = [Q K]

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``. A program sums one slot (see
``tokens``) of one head into a float32 workspace; a second kernel adds the slots of a sequence in
their order and lays the result out for stage two. Two passes instead of atomics: the order of
additions is fixed, and a sequence gets the same bits whatever lies beside it.

Workspaces (P = slots, S sequences, H heads, d head width, D2 = 2 d):
    partial  [P, H, 5 or 2, d, d]   Q'Q, Q'K, K'K, Q'V, K'V of a slot; or Q'dY, K'dY
    system   [S, H, D2, 3 d]        [G J | T], G J = [-Q'K, Q'Q; -K'K, K'Q]; or dW [S, H, D2, d]
    sums     [P, H, 2, d], means [S, H, 2, d]
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.tokens import (
    count_valid,
    first_slot,
    head_pointer,
    load_rows,
    locate_slot,
    sequence_span,
    valid_rows,
)

SIZES = ["num_sequences", "length", "total"]
"""Arguments that change from batch to batch: a value must not compile a kernel of its own."""


@triton.jit(do_not_specialize=SIZES)
def sum_rows(
    first,
    first_strides,
    second,
    second_strides,
    sums,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """Column sums of two operands over one slot and head."""
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(
        offsets, slot, num_sequences, length, total, CHUNK, SHORT
    )
    if begin >= size:
        return
    columns = tl.arange(0, D)
    one = head_pointer(first, first_strides, offsets, sequence, start, head)
    two = head_pointer(second, second_strides, offsets, sequence, start, head)
    sum_one = tl.zeros([D], tl.float32)
    sum_two = tl.zeros([D], tl.float32)
    for place in range(begin, tl.minimum(begin + CHUNK, size), TILE):
        rows = place + tl.arange(0, TILE)
        valid = valid_rows(mask, rows, start, size)
        tile_one = load_rows(one, first_strides, rows, valid, columns, None)
        tile_two = load_rows(two, second_strides, rows, valid, columns, None)
        sum_one += tl.sum(tile_one.to(tl.float32), 0)
        sum_two += tl.sum(tile_two.to(tl.float32), 0)
    target = sums + (slot.to(tl.int64) * heads + head) * 2 * D + columns
    tl.store(target, sum_one)
    tl.store(target + D, sum_two)


@triton.jit(do_not_specialize=SIZES)
def divide_sums(
    sums,
    means,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """Means of a sequence and head from the sums of its slots, taken in their order."""
    head = tl.program_id(0) % heads
    sequence = tl.program_id(0) // heads
    start, size = sequence_span(offsets, sequence, length, total, SHORT)
    if size <= 0:
        return
    slot = first_slot(offsets, sequence, start, length, CHUNK)
    columns = tl.arange(0, 2 * D)
    total_sum = tl.zeros([2 * D], tl.float32)
    for chunk in range(0, tl.cdiv(size, CHUNK)):
        source = sums + ((slot + chunk).to(tl.int64) * heads + head) * 2 * D
        total_sum += tl.load(source + columns)
    count = tl.maximum(count_valid(mask, start, size, 1024), 1)
    mean = total_sum / count.to(tl.float32)
    tl.store(means + tl.program_id(0).to(tl.int64) * 2 * D + columns, mean)


@triton.jit
def _store_block(partial, block, columns, accumulator, D: tl.constexpr):
    places = partial + block * D * D + tl.arange(0, D)[:, None] * D + columns[None, :]
    tl.store(places, accumulator)


@triton.jit(do_not_specialize=SIZES)
def reduce_products(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    means,
    partial,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    GRAM: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """Products of one slot and head, COLUMNS columns of each d x d block.

    With GRAM the five blocks of G and T; without, the two of M^T ``value``. Where d is wide a
    program takes some of the columns, so that its accumulators stay in registers.
    """
    BLOCKS: tl.constexpr = 5 if GRAM else 2
    group = tl.program_id(0) % (D // COLUMNS)
    head = tl.program_id(0) // (D // COLUMNS) % heads
    slot = tl.program_id(0) // (D // COLUMNS) // heads
    sequence, start, size, begin = locate_slot(
        offsets, slot, num_sequences, length, total, CHUNK, SHORT
    )
    if begin >= size:
        return
    q_base = head_pointer(query, query_strides, offsets, sequence, start, head)
    k_base = head_pointer(key, key_strides, offsets, sequence, start, head)
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    q_mean = None
    k_mean = None
    if means is not None:
        q_mean = means + (sequence.to(tl.int64) * heads + head) * 2 * D
        k_mean = q_mean + D
    features = tl.arange(0, D)
    columns = group * COLUMNS + tl.arange(0, COLUMNS)
    qv = tl.zeros([D, COLUMNS], tl.float32)
    kv = tl.zeros([D, COLUMNS], tl.float32)
    if GRAM:
        qq = tl.zeros([D, COLUMNS], tl.float32)
        qk = tl.zeros([D, COLUMNS], tl.float32)
        kk = tl.zeros([D, COLUMNS], tl.float32)
    for place in range(begin, tl.minimum(begin + CHUNK, size), TILE):
        rows = place + tl.arange(0, TILE)
        valid = valid_rows(mask, rows, start, size)
        q = load_rows(q_base, query_strides, rows, valid, features, q_mean).to(DOT)
        k = load_rows(k_base, key_strides, rows, valid, features, k_mean).to(DOT)
        v = load_rows(v_base, value_strides, rows, valid, columns, None).to(DOT)
        qt = tl.trans(q)
        kt = tl.trans(k)
        qv = tl.dot(qt, v, qv, input_precision=PRECISION)
        kv = tl.dot(kt, v, kv, input_precision=PRECISION)
        if GRAM:
            if COLUMNS == D:
                q_part = q
                k_part = k
            else:
                q_part = load_rows(q_base, query_strides, rows, valid, columns, q_mean).to(DOT)
                k_part = load_rows(k_base, key_strides, rows, valid, columns, k_mean).to(DOT)
            qq = tl.dot(qt, q_part, qq, input_precision=PRECISION)
            qk = tl.dot(qt, k_part, qk, input_precision=PRECISION)
            kk = tl.dot(kt, k_part, kk, input_precision=PRECISION)
    target = partial + (slot.to(tl.int64) * heads + head) * BLOCKS * D * D
    if GRAM:
        _store_block(target, 0, columns, qq, D)
        _store_block(target, 1, columns, qk, D)
        _store_block(target, 2, columns, kk, D)
    _store_block(target, BLOCKS - 2, columns, qv, D)
    _store_block(target, BLOCKS - 1, columns, kv, D)


@triton.jit(do_not_specialize=SIZES)
def combine_slots(
    partial,
    system,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    GRAM: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """Add the slots of a sequence and head in their order: ROWS rows of one d x d block."""
    BLOCKS: tl.constexpr = 5 if GRAM else 2
    WIDTH: tl.constexpr = 3 * D if GRAM else D
    row = tl.program_id(0) % (D // ROWS) * ROWS
    block = tl.program_id(0) // (D // ROWS) % BLOCKS
    pair = tl.program_id(0) // (D // ROWS) // BLOCKS
    head = pair % heads
    sequence = pair // heads
    start, size = sequence_span(offsets, sequence, length, total, SHORT)
    if size <= 0:
        return
    slot = first_slot(offsets, sequence, start, length, CHUNK)
    rows = row + tl.arange(0, ROWS)
    columns = tl.arange(0, D)
    places = rows[:, None] * D + columns[None, :]
    added = tl.zeros([ROWS, D], tl.float32)
    for chunk in range(0, tl.cdiv(size, CHUNK)):
        source = ((slot + chunk).to(tl.int64) * heads + head) * BLOCKS + block
        added += tl.load(partial + source * D * D + places)
    target = system + pair.to(tl.int64) * 2 * D * WIDTH
    if GRAM:
        if block == 1:  # Q'K serves twice: -Q'K above, K'Q below
            mirrored = target + (D + columns[None, :]) * WIDTH + D + rows[:, None]
            tl.store(mirrored, added)
        sign = tl.where((block == 1) | (block == 2), -1.0, 1.0)
        down = tl.where((block == 2) | (block == 4), D, 0)
        right = tl.where(block == 0, D, tl.where(block >= 3, 2 * D, 0))
        target += down * WIDTH + right
        tl.store(target + rows[:, None] * WIDTH + columns[None, :], sign * added)
    else:
        target += block * D * WIDTH
        tl.store(target + rows[:, None] * WIDTH + columns[None, :], added)
