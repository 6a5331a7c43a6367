"""Gradient of stage two on the device, by persistent programs with a bounded workspace.

With A = c X, X = G J, u = phi_1(A) T, W = c J u and given dW (arXiv:2602.05996 in the Gram form of
``osa.model.functional``; steps and series as in ``series``):

    du = (c J)^T dW = -c J dW                          L <- du, then for every step backwards:
    u_j = u_{j+1} - h phi_1(-h A) (A u_{j+1} + T)      the step undone, nothing was stored
    dT += dR,   dA += ...,   L <- L + A^T dR           of one step: ``reverse``

and then dX = c dA, dG = -dX J, dc = <dA, X> + <-J dW, u>. A program takes one sequence and head
after the other, and of each COLUMNS columns of T at a time; its pairs (D_k, Z_{k+1}) go through a
workspace that is its own and overwritten, so memory does not grow with the batch.

Workspaces, float32 but for what stage three multiplies (weight, moment, grams):
    system  [S, H, 2 d, 3 d]  [G J | T]          grad_weight [S, H, 2 d, d]  dW
    weight  [S, H, 2 d, d]    W                  moment      [S, H, 2 d, d]  dT
    grams   [S, H, 3, d, d]   blocks QQ, QK, KK of dG + dG^T
    alpha_parts [S, H]        what each sequence adds to the gradient of alpha
    own     [programs, OWN]   a block to multiply, PAIRS lefts, PAIRS rights, dA [2 d, 2 d]
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.reverse import PAIRS, add_outer, reverse_step
from osa.model.kernels.gpu.series import multiply, norm_bound, plan_steps, step, to_precision
from osa.model.kernels.gpu.solve import angle_unit, store_weight
from osa.model.kernels.gpu.tokens import sequence_span

MAX_GRADIENT_STEPS = tl.constexpr(1024)
"""Gradients of angles beyond STEP_ANGLE times this [rad] are NaN: they would take seconds."""
OUTER = 64
"""Tile of dA that is summed at once."""


@triton.jit
def _finish(grad_matrix, matrix, grams, factor, reachable, D: tl.constexpr, TILE: tl.constexpr):
    """Write dG + dG^T from dA = [a, b; e, f] and return <dA, X>.

    dG = c [b, -a; f, -e], so the blocks are QQ = c (b + b^T), QK = c (f^T - a), KK = -c (e + e^T).
    """
    D2: tl.constexpr = 2 * D
    WIDTH: tl.constexpr = 3 * D
    product = 0.0
    for tile in range(0, (D // TILE) * (D // TILE)):
        rows = tile // (D // TILE) * TILE + tl.arange(0, TILE)[:, None]
        columns = tile % (D // TILE) * TILE + tl.arange(0, TILE)[None, :]
        straight = grad_matrix + rows * D2 + columns
        turned = grad_matrix + columns * D2 + rows
        a = tl.load(straight)
        b = tl.load(straight + D)
        e = tl.load(straight + D * D2)
        f = tl.load(straight + D * D2 + D)
        places = matrix + rows * WIDTH + columns
        sums = a * tl.load(places) + b * tl.load(places + D)
        sums += e * tl.load(places + D * WIDTH) + f * tl.load(places + D * WIDTH + D)
        product += tl.sum(tl.sum(sums, 1), 0)
        query_part = factor * (b + tl.load(turned + D))
        cross_part = factor * (tl.load(turned + D * D2 + D) - a)
        key_part = -factor * (e + tl.load(turned + D * D2))
        target = grams + rows * D + columns
        kind = grams.dtype.element_ty
        nan = float("nan")
        tl.store(target, tl.where(reachable, query_part, nan).to(kind))
        tl.store(target + D * D, tl.where(reachable, cross_part, nan).to(kind))
        tl.store(target + 2 * D * D, tl.where(reachable, key_part, nan).to(kind))
    return product


@triton.jit(do_not_specialize=SIZES)
def solve_gradients(
    system,
    grad_weight,
    alpha,
    weight,
    moment,
    grams,
    alpha_parts,
    own,
    mask,
    offsets,
    heads,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    RESIDENT: tl.constexpr,
    OWN: tl.constexpr,
    LENGTH_SCALE: tl.constexpr,
    TOLERANCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """W, dT, dG + dG^T and alpha's part, for every sequence and head in turn."""
    D2: tl.constexpr = 2 * D
    WIDTH: tl.constexpr = 3 * D
    rows = tl.arange(0, D2)
    across = tl.where(rows < D, rows + D, rows - D)
    sign = tl.where(rows < D, -1.0, 1.0)[:, None]
    scratch = own + tl.program_id(0).to(tl.int64) * OWN
    pairs = scratch + D2 * COLUMNS
    grad_matrix = pairs + 2 * PAIRS * D2 * COLUMNS
    square = rows[:, None] * D2 + rows[None, :]
    pair = tl.program_id(0)
    while pair < num_sequences * heads:
        head = pair % heads
        start, size = sequence_span(offsets, pair // heads, length, total)
        if size > 0:
            unit = angle_unit(mask, start, size, D, LENGTH_SCALE)
            factor = tl.load(alpha + head).to(tl.float32) * unit
            matrix = system + pair.to(tl.int64) * D2 * WIDTH
            bound = tl.abs(factor) * norm_bound(matrix, D2, WIDTH, INNER)
            steps, step_length, degree = plan_steps(bound, TOLERANCE)
            steps = tl.where(steps <= MAX_GRADIENT_STEPS, steps, 0)
            reachable = steps > 0
            resident = None
            if RESIDENT:
                resident = tl.load(matrix + rows[:, None] * WIDTH + rows[None, :])
                resident = to_precision(resident, PRECISION)
            tl.store(grad_matrix + square, tl.zeros([D2, D2], tl.float32))
            grad_factor = 0.0
            half = pair.to(tl.int64) * D2 * D
            for group in range(0, D // COLUMNS):
                columns = group * COLUMNS + tl.arange(0, COLUMNS)
                rhs = tl.load(matrix + rows[:, None] * WIDTH + 2 * D + columns[None, :])
                turned = grad_weight + half + across[:, None] * D + columns[None, :]
                given = sign * tl.load(turned)  # -J dW
                state = tl.zeros([D2, COLUMNS], tl.float32)
                for index in range(0, steps):
                    state = step(
                        matrix,
                        resident,
                        state,
                        rhs,
                        factor,
                        step_length,
                        degree,
                        index == 0,
                        scratch,
                        WIDTH,
                        D2,
                        COLUMNS,
                        INNER,
                        PRECISION,
                    )
                state = tl.where(reachable, state, float("nan"))
                store_weight(weight + half, state, columns, factor, D)
                grad_factor += tl.sum(tl.sum(given * state, 1), 0)
                grad_state = factor * given
                grad_rhs = tl.zeros([D2, COLUMNS], tl.float32)
                for index in range(0, steps):
                    first = index == steps - 1  # in time: u = 0 before it
                    if first:
                        state = tl.zeros([D2, COLUMNS], tl.float32)
                    else:
                        state = step(
                            matrix,
                            resident,
                            state,
                            rhs,
                            factor,
                            -step_length,
                            degree,
                            False,
                            scratch,
                            WIDTH,
                            D2,
                            COLUMNS,
                            INNER,
                            PRECISION,
                        )
                    grad_inner = reverse_step(
                        matrix,
                        resident,
                        state,
                        rhs,
                        grad_state,
                        factor,
                        step_length,
                        degree,
                        first,
                        scratch,
                        pairs,
                        WIDTH,
                        D2,
                        COLUMNS,
                        INNER,
                        PRECISION,
                    )
                    grad_rhs += grad_inner
                    if not first:
                        grad_state += factor * multiply(
                            matrix,
                            resident,
                            grad_inner,
                            scratch,
                            True,
                            WIDTH,
                            D2,
                            COLUMNS,
                            INNER,
                            PRECISION,
                        )
                    add_outer(
                        grad_matrix,
                        pairs,
                        degree + tl.where(first, 0, 1),
                        D2,
                        COLUMNS,
                        TILE,
                        INNER,
                        PRECISION,
                    )
                grad_rhs = tl.where(reachable, grad_rhs, float("nan"))
                target = moment + half + rows[:, None] * D + columns[None, :]
                tl.store(target, grad_rhs.to(moment.dtype.element_ty))
            tl.debug_barrier()
            grad_factor += _finish(
                grad_matrix,
                matrix,
                grams + pair.to(tl.int64) * 3 * D * D,
                factor,
                reachable,
                D,
                INNER,
            )
            tl.store(alpha_parts + pair, tl.where(reachable, grad_factor, float("nan")) * unit)
            tl.debug_barrier()  # the workspace is free for the next sequence
        pair += tl.num_programs(0)
