"""A linear layer whose bits do not depend on the number of rows, with its activation.

    Y = f(X W^T + b),   X [T, K], W [N, K]

A library chooses tiles and the order of sums by the number of rows. Here they are fixed by the
widths and the type alone, every tile of Y sums over K in one order, and a row of a tile knows
nothing of the others: a sequence has the same bits alone and in any batch. Source of the order of
programs (those that share columns of W run side by side): P. Tillet et al., *Triton*, MAPL 2019.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.encoder.rows import activated


@triton.jit(do_not_specialize=["rows"])
def multiply_rows(
    inputs,
    weight,
    bias,
    output,
    rows,
    K: tl.constexpr,
    N: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    GROUP: tl.constexpr,
    KIND: tl.constexpr,
    DOT: tl.constexpr,
):
    """ROWS x COLUMNS numbers of Y."""
    across: tl.constexpr = (N + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    down = tl.cdiv(rows, ROWS)
    group = program // (GROUP * across)
    size = tl.minimum(down - group * GROUP, GROUP)
    row = (group * GROUP + program % (GROUP * across) % size) * ROWS + tl.arange(0, ROWS)
    column = program % (GROUP * across) // size * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, INNER)
    left = inputs + row.to(tl.int64)[:, None] * K + inner[None, :]
    right = weight + column.to(tl.int64)[None, :] * K + inner[:, None]
    within, beside = (row < rows)[:, None], (column < N)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, K, INNER):
        there = inner < K - start
        a = tl.load(left + start, mask=within & there[None, :], other=0.0).to(DOT)
        b = tl.load(right + start, mask=beside & there[:, None], other=0.0).to(DOT)
        total = tl.dot(a, b, total)
    if bias is not None:
        total += tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    total = activated(total, KIND)
    places = output + row.to(tl.int64)[:, None] * N + column[None, :]
    tl.store(places, total.to(output.dtype.element_ty), mask=within & beside)
