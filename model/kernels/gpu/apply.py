"""Stage three on the device: results of every token from its row and the small matrices.

    Y = V + M W
    dM = dY W^T + M (dG + dG^T) + V dT^T,   dV = dY + M dT,   M = [Q K]

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional`` and the closed form of
``gradient`` there. A program takes one slot of one head (slots of TILE tokens, see ``tokens``)
and walks over the features, INNER at a time. Padding comes out zero whatever the weights hold.

With centred queries and keys the gradient of centring takes the mean off dM. Since the centred M
has mean zero, that mean is mean(dY) W^T + mean(V) dT^T: it is taken off dY and V where they are
loaded, and no pass over dM is needed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.series import to_precision
from osa.model.kernels.gpu.tokens import (
    head_pointer,
    load_rows,
    locate_slot,
    store_rows,
    valid_rows,
)


@triton.jit
def _weight(weight, rows, columns, D: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """``weight[rows, columns]`` of a d x d block."""
    tile = tl.load(weight + rows[:, None] * D + columns[None, :]).to(DOT)
    if tl.float32 == DOT:
        tile = to_precision(tile, PRECISION)
    return tile


@triton.jit
def _transposed(weight, rows, columns, D: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """``weight[columns, rows]`` of a d x d block."""
    tile = tl.load(weight + columns[None, :] * D + rows[:, None]).to(DOT)
    if tl.float32 == DOT:
        tile = to_precision(tile, PRECISION)
    return tile


@triton.jit(do_not_specialize=SIZES)
def apply_weights(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    output,
    output_strides,
    means,
    weight,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    TILE: tl.constexpr,
    INNER: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """Y of one slot and head."""
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(
        offsets, slot, num_sequences, length, total, TILE, SHORT
    )
    if begin >= size:
        return
    pair = sequence.to(tl.int64) * heads + head
    q_base = head_pointer(query, query_strides, offsets, sequence, start, head)
    k_base = head_pointer(key, key_strides, offsets, sequence, start, head)
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    target = head_pointer(output, output_strides, offsets, sequence, start, head)
    q_weight = weight + pair * 2 * D * D
    k_weight = q_weight + D * D
    rows = begin + tl.arange(0, TILE)
    valid = valid_rows(mask, rows, start, size)
    columns = tl.arange(0, D)
    result = load_rows(v_base, value_strides, rows, valid, columns, None).to(tl.float32)
    q_mean = None
    k_mean = None
    if means is not None:
        q_mean = means + pair * 2 * D
        k_mean = q_mean + D
    for feature in range(0, D, INNER):
        inner = feature + tl.arange(0, INNER)
        q = load_rows(q_base, query_strides, rows, valid, inner, q_mean).to(DOT)
        k = load_rows(k_base, key_strides, rows, valid, inner, k_mean).to(DOT)
        q_part = _weight(q_weight, inner, columns, D, DOT, PRECISION)
        k_part = _weight(k_weight, inner, columns, D, DOT, PRECISION)
        result = tl.dot(q, q_part, result, input_precision=PRECISION)
        result = tl.dot(k, k_part, result, input_precision=PRECISION)
    store_rows(target, output_strides, rows, size, valid, result, D)


@triton.jit(do_not_specialize=SIZES)
def apply_gradients(
    grad,
    grad_strides,
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    grad_query,
    grad_query_strides,
    grad_key,
    grad_key_strides,
    grad_value,
    grad_value_strides,
    means,
    grad_means,
    weight,
    moment,
    grams,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    TILE: tl.constexpr,
    INNER: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of queries, keys and values of one slot and head.

    ``grad_means`` are those of V and dY, given with ``means`` where queries and keys are centred.
    """
    head = tl.program_id(0) % heads
    slot = tl.program_id(0) // heads
    sequence, start, size, begin = locate_slot(offsets, slot, num_sequences, length, total, TILE)
    if begin >= size:
        return
    pair = sequence.to(tl.int64) * heads + head
    y_base = head_pointer(grad, grad_strides, offsets, sequence, start, head)
    q_base = head_pointer(query, query_strides, offsets, sequence, start, head)
    k_base = head_pointer(key, key_strides, offsets, sequence, start, head)
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    rows = begin + tl.arange(0, TILE)
    valid = valid_rows(mask, rows, start, size)
    columns = tl.arange(0, D)
    q_mean = None
    k_mean = None
    v_mean = None
    y_mean = None
    if means is not None:
        q_mean = means + pair * 2 * D
        k_mean = q_mean + D
        v_mean = grad_means + pair * 2 * D
        y_mean = v_mean + D
    weight += pair * 2 * D * D
    moment += pair * 2 * D * D
    grams += pair * 3 * D * D
    query_sum = tl.zeros([TILE, D], tl.float32)
    key_sum = tl.zeros([TILE, D], tl.float32)
    value_sum = load_rows(y_base, grad_strides, rows, valid, columns, None).to(tl.float32)
    for feature in range(0, D, INNER):
        inner = feature + tl.arange(0, INNER)
        y = load_rows(y_base, grad_strides, rows, valid, inner, y_mean).to(DOT)
        part = _transposed(weight, inner, columns, D, DOT, PRECISION)
        query_sum = tl.dot(y, part, query_sum, input_precision=PRECISION)
        part = _transposed(weight + D * D, inner, columns, D, DOT, PRECISION)
        key_sum = tl.dot(y, part, key_sum, input_precision=PRECISION)
        v = load_rows(v_base, value_strides, rows, valid, inner, v_mean).to(DOT)
        part = _transposed(moment, inner, columns, D, DOT, PRECISION)
        query_sum = tl.dot(v, part, query_sum, input_precision=PRECISION)
        part = _transposed(moment + D * D, inner, columns, D, DOT, PRECISION)
        key_sum = tl.dot(v, part, key_sum, input_precision=PRECISION)
        q = load_rows(q_base, query_strides, rows, valid, inner, q_mean).to(DOT)
        part = _weight(grams, inner, columns, D, DOT, PRECISION)
        query_sum = tl.dot(q, part, query_sum, input_precision=PRECISION)
        part = _weight(grams + D * D, inner, columns, D, DOT, PRECISION)
        key_sum = tl.dot(q, part, key_sum, input_precision=PRECISION)
        part = _weight(moment, inner, columns, D, DOT, PRECISION)
        value_sum = tl.dot(q, part, value_sum, input_precision=PRECISION)
        k = load_rows(k_base, key_strides, rows, valid, inner, k_mean).to(DOT)
        part = _transposed(grams + D * D, inner, columns, D, DOT, PRECISION)
        query_sum = tl.dot(k, part, query_sum, input_precision=PRECISION)
        part = _weight(grams + 2 * D * D, inner, columns, D, DOT, PRECISION)
        key_sum = tl.dot(k, part, key_sum, input_precision=PRECISION)
        part = _weight(moment + D * D, inner, columns, D, DOT, PRECISION)
        value_sum = tl.dot(k, part, value_sum, input_precision=PRECISION)
    target = head_pointer(grad_query, grad_query_strides, offsets, sequence, start, head)
    store_rows(target, grad_query_strides, rows, size, valid, query_sum, D)
    target = head_pointer(grad_key, grad_key_strides, offsets, sequence, start, head)
    store_rows(target, grad_key_strides, rows, size, valid, key_sum, D)
    target = head_pointer(grad_value, grad_value_strides, offsets, sequence, start, head)
    store_rows(target, grad_value_strides, rows, size, valid, value_sum, D)
