"""Gradient of one step of ``series`` on the device.

With A = c X and the step u' = u + h phi_1(h A) R, R = A u + T, and L the gradient of u'
(arXiv:2602.05996 in the Gram form of ``osa.model.functional``):

    Z_K = R,       Z_k = R + h A Z_{k+1} / (k + 2)
    D_0 = h L,     D_{k+1} = h A^T D_k / (k + 2)       reverse Horner
    dR = sum_k D_k
    dA += h sum_k D_k Z_{k+1}^T / (k + 2) + dR u^T     one sum of products, tile by tile

The pairs (h D_k / (k + 2), Z_{k+1}) and (dR, u) go through global memory, where the sum finds them:
[2, PAIRS, D2, COLUMNS], lefts first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.series import multiply, to_precision

PAIRS = tl.constexpr(17)
"""Room for the pairs of one step: at most MAX_DEGREE of ``series``, and one for u."""


@triton.jit
def _store_pair(pairs, index, left, right, D2: tl.constexpr, COLUMNS: tl.constexpr):
    places = tl.arange(0, D2)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    SIZE: tl.constexpr = D2 * COLUMNS
    if left is not None:
        tl.store(pairs + index * SIZE + places, left)
    if right is not None:
        tl.store(pairs + (PAIRS + index) * SIZE + places, right)


@triton.jit
def add_outer(
    grad_matrix,
    pairs,
    count,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """DA += sum of left_p right_p^T over the stored pairs."""
    SIZE: tl.constexpr = D2 * COLUMNS
    PIECES: tl.constexpr = COLUMNS // INNER
    tl.debug_barrier()  # all pairs are stored
    for tile in range(0, (D2 // TILE) * (D2 // TILE)):
        rows = tile // (D2 // TILE) * TILE + tl.arange(0, TILE)
        columns = tile % (D2 // TILE) * TILE + tl.arange(0, TILE)
        places = grad_matrix + rows[:, None] * D2 + columns[None, :]
        added = tl.load(places)
        for piece in range(0, count * PIECES):
            source = pairs + piece // PIECES * SIZE
            inner = piece % PIECES * INNER + tl.arange(0, INNER)
            left = tl.load(source + rows[:, None] * COLUMNS + inner[None, :])
            right = tl.load(source + PAIRS * SIZE + columns[None, :] * COLUMNS + inner[:, None])
            left = to_precision(left, PRECISION)
            right = to_precision(right, PRECISION)
            added = tl.dot(left, right, added, input_precision=PRECISION)
        tl.store(places, added)
    tl.debug_barrier()  # all pairs are read


@triton.jit
def reverse_step(
    matrix,
    resident,
    state,
    rhs,
    grad_state,
    factor,
    length,
    degree,
    first,
    scratch,
    pairs,
    WIDTH: tl.constexpr,
    D2: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of R in one step, whose pairs for dA are left in the workspace."""
    iterate = rhs
    if not first:
        iterate += factor * multiply(
            matrix, resident, state, scratch, False, WIDTH, D2, COLUMNS, INNER, PRECISION
        )
    begin = iterate
    for index in range(0, degree):
        term = degree - 1 - index
        _store_pair(pairs, term, None, iterate, D2, COLUMNS)
        if term > 0:
            product = multiply(
                matrix, resident, iterate, scratch, False, WIDTH, D2, COLUMNS, INNER, PRECISION
            )
            iterate = begin + factor * length / (term + 2) * product
    grad = length * grad_state
    total = grad
    for term in range(0, degree):
        scaled = grad * (length / (term + 2))
        _store_pair(pairs, term, scaled, None, D2, COLUMNS)
        grad = factor * multiply(
            matrix, resident, scaled, scratch, True, WIDTH, D2, COLUMNS, INNER, PRECISION
        )
        total += grad
    if not first:
        _store_pair(pairs, degree, total, state, D2, COLUMNS)
    return total
