"""Stage two of the few sequences and heads whose angle is too large for steps: by doubling.

With E = e^A - 1, A = c X 2^-s (N. J. Higham, *Functions of Matrices*, SIAM 2008, ch. 10, as in
``osa.model.functional.phi1``; arXiv:2602.05996):

    phi_1(2 A) T = (I + E / 2) phi_1(A) T,    e^{2 A} - 1 = 2 E + E^2

The work grows with the logarithm of the angle, but E is as large as X and all of its columns are
needed at once. So a fixed number of programs look at every sequence and head, take those that
``solve`` left to them, and keep E in a workspace of their own.

Workspaces, float32: plans [S, H, 2] = c and the bound of ||c G J|| [rad]; system and weight as in
``solve``; own [programs, OWN] = a block to multiply, E twice [2 d, 2 d], phi_1 T [2 d, d].
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.series import STEP_ANGLE, horner, multiply, needs_doubling, taylor_degree
from osa.model.kernels.gpu.solve import store_weight
from osa.model.kernels.gpu.tokens import sequence_span


@triton.jit
def _halve(bound):
    """The angle below STEP_ANGLE that ``bound`` comes down to, and in how many halvings."""
    halvings = 0
    while bound > STEP_ANGLE:
        bound *= 0.5
        halvings += 1
    return bound, halvings


@triton.jit
def _start(
    matrix,
    target,
    factor,
    degree,
    scratch,
    FIRST: tl.constexpr,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """phi_1(``factor`` X) of COUNT columns of [X | T], from column FIRST on, into ``target``."""
    rows = tl.arange(0, D2)
    for column in range(0, COUNT, COLUMNS):
        columns = column + tl.arange(0, COLUMNS)
        rhs = tl.load(matrix + rows[:, None] * WIDTH + FIRST + columns[None, :])
        block = horner(
            matrix, None, rhs, factor, degree, scratch, WIDTH, D2, COLUMNS, INNER, PRECISION
        )
        tl.store(target + rows[:, None] * COUNT + columns[None, :], block)


@triton.jit
def _apply_square(
    square,
    source,
    target,
    own_factor,
    factor,
    scratch,
    COUNT: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``target`` = ``own_factor`` B + ``factor`` E B for B = ``source`` [D2, COUNT]."""
    rows = tl.arange(0, D2)
    for column in range(0, COUNT, COLUMNS):
        places = rows[:, None] * COUNT + column + tl.arange(0, COLUMNS)[None, :]
        block = tl.load(source + places)
        product = multiply(square, None, block, scratch, False, D2, D2, COLUMNS, INNER, PRECISION)
        tl.store(target + places, own_factor * block + factor * product)


@triton.jit(do_not_specialize=SIZES)
def double_weights(
    system,
    plans,
    weight,
    own,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    OWN: tl.constexpr,
    TOLERANCE: tl.constexpr,
    PRECISION: tl.constexpr,
    SHORT: tl.constexpr = 0,
):
    """W of every sequence and head whose bound calls for it."""
    D2: tl.constexpr = 2 * D
    WIDTH: tl.constexpr = 3 * D
    rows = tl.arange(0, D2)
    scratch = own + tl.program_id(0).to(tl.int64) * OWN
    squares = scratch + D2 * COLUMNS
    action = squares + 2 * D2 * D2
    pair = tl.program_id(0)
    while pair < num_sequences * heads:
        _, size = sequence_span(offsets, pair // heads, length, total, SHORT)
        bound = 0.0
        if size > 0:  # plans of empty sequences were never written
            bound = tl.load(plans + 2 * pair + 1)
        if needs_doubling(bound):
            factor = tl.load(plans + 2 * pair)
            angle, halvings = _halve(bound)
            scaled = factor * (angle / bound)  # a power of two: exact
            degree = taylor_degree(angle, TOLERANCE)
            matrix = system + pair.to(tl.int64) * D2 * WIDTH
            _start(
                matrix,
                action,
                scaled,
                degree,
                scratch,
                2 * D,
                D,
                WIDTH,
                D2,
                COLUMNS,
                INNER,
                PRECISION,
            )
            _start(
                matrix,
                squares,
                scaled,
                degree,
                scratch,
                0,
                D2,
                WIDTH,
                D2,
                COLUMNS,
                INNER,
                PRECISION,
            )
            tl.debug_barrier()
            places = rows[:, None] * D2 + rows[None, :]
            tl.store(squares + places, scaled * tl.load(squares + places))
            for index in range(0, halvings):
                square = squares + index % 2 * D2 * D2
                following = squares + (index + 1) % 2 * D2 * D2
                tl.debug_barrier()  # E is stored
                _apply_square(
                    square, action, action, 1.0, 0.5, scratch, D, D2, COLUMNS, INNER, PRECISION
                )
                _apply_square(
                    square, square, following, 2.0, 1.0, scratch, D2, D2, COLUMNS, INNER, PRECISION
                )
            tl.debug_barrier()
            for column in range(0, D, COLUMNS):
                columns = column + tl.arange(0, COLUMNS)
                block = tl.load(action + rows[:, None] * D + columns[None, :])
                store_weight(weight + pair.to(tl.int64) * D2 * D, block, columns, factor, D)
            tl.debug_barrier()  # the workspace is free for the next
        pair += tl.num_programs(0)
