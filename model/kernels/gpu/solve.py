"""Stage two on the device: W = c J phi_1(c G J) T, a program for each sequence, head and columns.

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``; the series in ``series``.
Everything is float32, whatever the operands are; W is rounded once, to what stage three multiplies.
Steps and degree are decided here from the bound of that sequence's own angle: nothing is read by
the host, and neighbours in the batch do not matter.

Workspaces: system [S, H, 2 d, 3 d] = [G J | T], weight [S, H, 2 d, d],
plans [S, H, 2] = c and the bound of ||c G J|| [rad] of sequences that are not empty.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.series import needs_doubling, norm_bound, plan_steps, step, to_precision
from osa.model.kernels.gpu.tokens import count_valid, sequence_span


@triton.jit
def angle_unit(mask, start, size, D: tl.constexpr, LENGTH_SCALE: tl.constexpr):
    """C / alpha: 1 / sqrt(d), with LENGTH_SCALE also over the number of valid tokens."""
    unit = 1.0 / tl.sqrt(D * 1.0)
    if LENGTH_SCALE:
        count = tl.maximum(count_valid(mask, start, size, 1024), 1)
        unit = unit / count.to(tl.float32)
    return unit


@triton.jit
def store_weight(weight, block, columns, factor, D: tl.constexpr):
    """Store c J u: row i of u goes to row i + d or i - d, the upper half with its sign turned."""
    rows = tl.arange(0, 2 * D)
    upper = rows < D
    places = tl.where(upper, rows + D, rows - D)[:, None] * D + columns[None, :]
    signed = tl.where(upper[:, None], -block, block) * factor
    tl.store(weight + places, signed.to(weight.dtype.element_ty))


@triton.jit(do_not_specialize=SIZES)
def solve_weights(
    system,
    alpha,
    weight,
    plans,
    scratch,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    RESIDENT: tl.constexpr,
    LENGTH_SCALE: tl.constexpr,
    TOLERANCE: tl.constexpr,
    PRECISION: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """COLUMNS columns of W for one sequence and head.

    Nothing for an empty sequence, or one that is left to ``doubling``.
    """
    D2: tl.constexpr = 2 * D
    WIDTH: tl.constexpr = 3 * D
    program = tl.program_id(0)
    pair = program // (D // COLUMNS)
    head = pair % heads
    start, size = sequence_span(offsets, pair // heads, length, total, SHORT)
    if size <= 0:
        return
    factor = tl.load(alpha + head).to(tl.float32)
    factor *= angle_unit(mask, start, size, D, LENGTH_SCALE)
    rows = tl.arange(0, D2)
    columns = program % (D // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    matrix = system + pair.to(tl.int64) * D2 * WIDTH
    bound = tl.abs(factor) * norm_bound(matrix, D2, WIDTH, INNER)
    tl.store(plans + 2 * pair, factor)
    tl.store(plans + 2 * pair + 1, bound)
    if needs_doubling(bound):
        return
    steps, step_length, degree = plan_steps(bound, TOLERANCE)
    moment = tl.load(matrix + rows[:, None] * WIDTH + 2 * D + columns[None, :])
    resident = None
    own_scratch = None
    if RESIDENT:
        resident = tl.load(matrix + rows[:, None] * WIDTH + rows[None, :])
        resident = to_precision(resident, PRECISION)
    else:
        own_scratch = scratch + program.to(tl.int64) * D2 * COLUMNS
    block = tl.zeros([D2, COLUMNS], tl.float32)
    for index in range(0, steps):
        block = step(
            matrix,
            resident,
            block,
            moment,
            factor,
            step_length,
            degree,
            index == 0,
            own_scratch,
            WIDTH,
            D2,
            COLUMNS,
            INNER,
            PRECISION,
        )
    block = tl.where(steps > 0, block, float("nan"))
    store_weight(weight + pair.to(tl.int64) * D2 * D, block, columns, factor, D)
