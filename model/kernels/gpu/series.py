"""Products of the small matrices and phi_1 of them, inside one program of the device.

    u = phi_1(X) T,   phi_1(z) = (e^z - 1) / z

u(1) of u' = X u + T, u(0) = 0. Where ||X|| is above ``STEP_ANGLE`` the unit of time is cut into s
equal steps h = 1 / s, each exact but for its Taylor remainder:

    u <- u + h phi_1(h X) (X u + T)

That is the squaring of ``osa.model.functional.phi1`` by addition: it needs neither e^X nor its
derivative, works on columns of T that know nothing of each other, and can be walked backwards by
h -> -h without anything stored. In the seminorm that counts (c M J u = (e^{tS} - 1) V) every step
is a rotation, so rounding errors add up and do not grow. Source: N. J. Higham, *Functions of
Matrices*, SIAM 2008, ch. 10, and arXiv:2602.05996 in the Gram form of ``osa.model.functional``.

The matrix lies in global memory (in cache, after the first touch) with row stride WIDTH. Blocks
are values [D2, COLUMNS] of the program. A product takes the matrix as a resident value where it
fits, else walks over it, with the block written to ``scratch`` so that it can be sliced.
"""

from __future__ import annotations

import triton
import triton.language as tl

STEP_ANGLE = tl.constexpr(2.0)
"""Largest angle [rad] of one step, ``ANGLE_LIMIT`` of ``osa.model.functional.phi1``."""
MAX_DEGREE = tl.constexpr(15)
"""More terms than ``STEP_ANGLE`` needs in float32 (14)."""
MAX_STEPS = tl.constexpr(16384)
"""Beyond STEP_ANGLE * MAX_STEPS [rad] float32 knows no angle: results are NaN, never wrong."""


DOUBLING_ANGLE = tl.constexpr(16.0)
"""Beyond it the forward pass doubles (``doubling``) instead of stepping."""


@triton.jit
def needs_doubling(bound):
    """Whether stage two is left to ``doubling``; what is beyond every angle is not."""
    return (bound > DOUBLING_ANGLE) & (bound <= STEP_ANGLE * MAX_STEPS)


@triton.jit
def to_precision(tile, PRECISION: tl.constexpr):
    """Round float32 numbers to what PRECISION multiplies.

    Tensor cores cut the last 13 bits off for TF32, always towards zero: a bias that sums do not
    average away. Rounding first leaves them nothing to cut (and the interpreter the same numbers).
    """
    if PRECISION == "tf32":
        bits = tile.to(tl.int32, bitcast=True)
        rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        tile = tl.where(tile == tile, rounded, tile)  # the carry would turn some NaN into 0
    return tile


@triton.jit
def norm_bound(matrix, D2: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """Upper bound of ||X||_2: the least of Frobenius and sqrt(one-norm * infinity-norm).

    NaN or infinity where an entry is: the sum of squares carries it, maxima might not.
    """
    columns = tl.arange(0, D2)
    squares = tl.zeros([ROWS], tl.float32)
    row_sums = tl.zeros([ROWS], tl.float32)
    column_sums = tl.zeros([D2], tl.float32)
    for row in range(0, D2, ROWS):
        rows = row + tl.arange(0, ROWS)
        tile = tl.load(matrix + rows[:, None] * WIDTH + columns[None, :])
        squares += tl.sum(tile * tile, 1)
        row_sums = tl.maximum(row_sums, tl.sum(tl.abs(tile), 1))
        column_sums += tl.sum(tl.abs(tile), 0)
    frobenius = tl.sqrt(tl.sum(squares, 0))
    product = tl.sqrt(tl.max(row_sums, 0)) * tl.sqrt(tl.max(column_sums, 0))
    finite = frobenius < float("inf")
    return tl.where(finite, tl.minimum(frobenius, product), float("nan"))


@triton.jit
def taylor_degree(angle, TOLERANCE: tl.constexpr):
    """Least degree whose remainder is within TOLERANCE, as in ``osa.model.functional.phi1``.

    The remainder of phi_1 after degree k is at most theta^(k+1) / (k+2)! * e^theta.
    """
    degree = 0
    remainder = angle * 0.5 * tl.exp(angle)
    while (remainder > TOLERANCE) & (degree < MAX_DEGREE):
        degree += 1
        remainder *= angle / (degree + 2)
    return degree


@triton.jit
def plan_steps(bound, TOLERANCE: tl.constexpr):
    """Steps and Taylor degree for an angle bound [rad].

    Returns:
        Steps (0 where the bound is NaN or beyond MAX_STEPS), the length of one, the degree.
    """
    reachable = bound <= STEP_ANGLE * MAX_STEPS  # false for NaN
    bound = tl.where(reachable, bound, 0.0)
    needed = tl.maximum(tl.ceil(bound / STEP_ANGLE), 1.0)
    length = 1.0 / needed
    degree = taylor_degree(bound * length, TOLERANCE)
    return tl.where(reachable, needed, 0.0).to(tl.int32), length, degree


@triton.jit
def multiply(
    matrix,
    resident,
    block,
    scratch,
    TRANSPOSED: tl.constexpr,
    WIDTH: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """X ``block``, or X^T ``block``; ``resident``, if given, is X in PRECISION."""
    block = to_precision(block, PRECISION)
    if resident is not None:
        if TRANSPOSED:
            product = tl.dot(tl.trans(resident), block, input_precision=PRECISION)
        else:
            product = tl.dot(resident, block, input_precision=PRECISION)
    else:
        rows = tl.arange(0, D2)
        columns = tl.arange(0, COLUMNS)
        tl.debug_barrier()  # the last product has been read
        tl.store(scratch + rows[:, None] * COLUMNS + columns[None, :], block)
        tl.debug_barrier()
        product = tl.zeros([D2, COLUMNS], tl.float32)
        for start in range(0, D2, INNER):
            inner = start + tl.arange(0, INNER)
            if TRANSPOSED:
                left = tl.load(matrix + inner[None, :] * WIDTH + rows[:, None])
            else:
                left = tl.load(matrix + rows[:, None] * WIDTH + inner[None, :])
            left = to_precision(left, PRECISION)
            right = tl.load(scratch + inner[:, None] * COLUMNS + columns[None, :])
            product = tl.dot(left, right, product, input_precision=PRECISION)
    return product


@triton.jit
def horner(
    matrix,
    resident,
    rhs,
    factor,
    degree,
    scratch,
    WIDTH: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """phi_1(``factor`` X) ``rhs`` by Horner: Z_k = R + factor X Z_{k+1} / (k + 2), Z_K = R."""
    iterate = rhs
    for term in range(0, degree):
        coefficient = factor / (degree + 1 - term)
        product = multiply(
            matrix, resident, iterate, scratch, False, WIDTH, D2, COLUMNS, INNER, PRECISION
        )
        iterate = rhs + coefficient * product
    return iterate


@triton.jit
def step(
    matrix,
    resident,
    block,
    moment,
    factor,
    length,
    degree,
    first,
    scratch,
    WIDTH: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """U + h phi_1(h c X) (c X u + T), with u = 0 where ``first``; h < 0 goes back in time."""
    rhs = moment
    if not first:
        rhs += factor * multiply(
            matrix, resident, block, scratch, False, WIDTH, D2, COLUMNS, INNER, PRECISION
        )
    return block + length * horner(
        matrix,
        resident,
        rhs,
        factor * length,
        degree,
        scratch,
        WIDTH,
        D2,
        COLUMNS,
        INNER,
        PRECISION,
    )
