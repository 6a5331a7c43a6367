"""Attention of short sequences in one kernel: a program holds all scores of a sequence and head.

    Y = exp(S) V,   S = c (Q K^T - K Q^T),   exp(S) V = exp(h S) ... exp(h S) V

Source: arXiv:2602.05996; steps and their Taylor remainder as in ``series``. With N <= 2 d tokens
the N x N scores are smaller than the 2 d x 2 d Gram form of the other stages, and nothing but the
result leaves the program: no workspace, one launch in place of four to seven. S is antisymmetric,
so every step is a rotation and rounding errors add up without growing.

Which sequences are short is a matter of their own length alone (``SHORT_TOKENS``), so their bits
do not depend on the batch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.series import plan_steps, to_precision
from osa.model.kernels.gpu.tokens import head_pointer, load_rows, sequence_span

SHORT_TOKENS = 64
"""Longest sequence that this kernel takes [tokens]: the side of its tile of scores."""


@triton.jit
def _centered(tile, valid, size, CENTER: tl.constexpr):
    """Rows less their mean over the sequence, in their own type; as they are without CENTER."""
    if CENTER:
        numbers = tile.to(tl.float32)
        mean = tl.sum(numbers, 0) / size.to(tl.float32)
        tile = tl.where(valid[:, None], numbers - mean[None, :], 0.0).to(tile.dtype)
    return tile


@triton.jit
def _angle(scores):
    """Upper bound of the norm of antisymmetric scores [rad]; NaN where one is not finite.

    Their singular values come in pairs: 2 ||S||_2^2 <= ||S||_F^2. The sum is taken over both axes
    at once: one over a single axis of a product is what Triton 3.7.1 cannot compile for sm_100.
    """
    square = tl.sum(scores * scores) * 0.5
    return tl.where(square < float("inf"), tl.sqrt(square), float("nan"))


@triton.jit(do_not_specialize=SIZES)
def attend_short(
    query,
    query_strides,
    key,
    key_strides,
    value,
    value_strides,
    output,
    output_strides,
    alpha,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    DOT: tl.constexpr,
    CENTER: tl.constexpr,
    LENGTH_SCALE: tl.constexpr,
    TOLERANCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """COLUMNS columns of Y of one sequence and head, of at most TILE tokens; nothing for others."""
    pair = tl.program_id(0) // (D // COLUMNS)
    head = pair % heads
    sequence = pair // heads
    start, size = sequence_span(offsets, sequence, length, total)
    if (size <= 0) | (size > TILE):
        return
    rows = tl.arange(0, TILE)
    columns = tl.program_id(0) % (D // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    valid = rows < size
    q_base = head_pointer(query, query_strides, offsets, sequence, start, head)
    k_base = head_pointer(key, key_strides, offsets, sequence, start, head)
    v_base = head_pointer(value, value_strides, offsets, sequence, start, head)
    product = tl.zeros([TILE, TILE], tl.float32)
    for feature in range(0, D, INNER):
        inner = feature + tl.arange(0, INNER)
        q = load_rows(q_base, query_strides, rows, valid, inner, None)
        k = load_rows(k_base, key_strides, rows, valid, inner, None)
        q = _centered(q, valid, size, CENTER).to(DOT)
        k = _centered(k, valid, size, CENTER).to(DOT)
        product = tl.dot(q, tl.trans(k), product, input_precision=PRECISION)
    factor = tl.load(alpha + head).to(tl.float32) / tl.sqrt(D * 1.0)
    if LENGTH_SCALE:
        factor = factor / size.to(tl.float32)
    scores = factor * (product - tl.trans(product))
    bound = _angle(scores)
    steps, step_length, degree = plan_steps(bound, TOLERANCE)
    scores = to_precision(scores, PRECISION)
    states = load_rows(v_base, value_strides, rows, valid, columns, None).to(tl.float32)
    for _step in range(0, steps):
        term = states
        for index in range(0, degree + 1):
            term = tl.dot(scores, to_precision(term, PRECISION), input_precision=PRECISION)
            term = term * (step_length / (index + 1))
            states += term
    states = tl.where(steps > 0, states, float("nan"))
    target = head_pointer(output, output_strides, offsets, sequence, start, head)
    places = target + rows.to(tl.int64)[:, None] * output_strides[2] + columns[None, :]
    tl.store(places, states.to(output.dtype.element_ty), mask=valid[:, None])
