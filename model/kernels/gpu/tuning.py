"""Tile sizes, by head width and type of operands: what of the kernels is a matter of the device.

They follow what the compiler says of registers and shared memory for sm_80 and sm_90 (at most
100 KB, no spills to speak of), and change the order of additions, so the last bits: they may
depend on the type and width of the operands, and on nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

CHUNK = 512
"""Tokens that one program sums: the unit in which sequences are split."""


@dataclass(frozen=True)
class Reduce:
    """Stage one.

    Attributes:
        tile: Tokens multiplied at once.
        columns: Columns of each d x d block that one program sums.
        warps: Of a program.
        stages: Tiles on their way at once.
    """

    tile: int
    columns: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Solve:
    """Stage two, or its gradient.

    Attributes:
        columns: Columns of T taken at once.
        inner: Depth of the pieces in which products are taken; at most ``columns``.
        resident: Whether the matrix is held on chip whole.
        warps: Of a program.
        stages: Pieces on their way at once.
    """

    columns: int
    inner: int
    resident: bool
    warps: int
    stages: int


@dataclass(frozen=True)
class Apply:
    """Stage three, or its gradient.

    Attributes:
        tile: Tokens of one program.
        inner: Features multiplied at once.
        warps: Of a program.
        stages: Pieces on their way at once.
    """

    tile: int
    inner: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Short:
    """Attention of short sequences.

    Attributes:
        columns: Columns of the result that one program computes; it computes all scores.
        inner: Features multiplied at once.
        warps: Of a program.
        stages: Pieces on their way at once.
    """

    columns: int
    inner: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Product:
    """Products of the encoder's linear layers.

    Attributes:
        rows: Of one program.
        columns: Of one program.
        inner: Features multiplied at once.
        warps: Of a program.
        stages: Pieces on their way at once.
    """

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


def product_tiles(width: int) -> Product:
    """Tiles of a product with ``width`` outputs: narrow ones are those of the gates."""
    return Product(128, 64, 64, 4, 3) if width <= 64 else Product(128, 128, 64, 8, 3)


@dataclass(frozen=True)
class Tuning:
    """Everything for one width and type.

    Attributes:
        reduce: Stage one.
        solve: Stage two.
        doubling: Stage two for large angles; never resident.
        adjoint: Gradient of stage two.
        apply: Stage three.
        gradient: Gradient of stage three.
        short: Short sequences in one kernel.
        precision: How float32 numbers are multiplied.
        tolerance: Remainder at which the series stops.
    """

    reduce: Reduce
    solve: Solve
    doubling: Solve
    adjoint: Solve
    apply: Apply
    gradient: Apply
    short: Short
    precision: str
    tolerance: float


def _single(reduce: Reduce, solve: Solve, adjoint: Solve, apply: Apply, gradient: Apply) -> Tuning:
    tolerance = torch.finfo(torch.float32).eps / 2
    short = Short(32, 32, 8, 1)
    return Tuning(reduce, solve, solve, adjoint, apply, gradient, short, "ieee", tolerance)


def _half(dtype: torch.dtype) -> dict[int, Tuning]:
    """TF32 in stage two: its rounding, 2^-12 of an entry, is below that of the operands."""
    rest = ("tf32", torch.finfo(dtype).eps / 8)
    return {
        32: Tuning(
            Reduce(64, 32, 4, 3),
            Solve(32, 32, True, 4, 1),
            Solve(32, 32, False, 4, 2),
            Solve(32, 32, False, 4, 2),
            Apply(128, 32, 4, 1),
            Apply(64, 32, 4, 1),
            Short(32, 32, 4, 1),
            *rest,
        ),
        64: Tuning(
            Reduce(32, 64, 8, 3),
            Solve(32, 32, True, 8, 1),
            Solve(32, 32, False, 8, 2),
            Solve(32, 32, False, 8, 2),
            Apply(128, 64, 4, 1),
            Apply(64, 64, 4, 1),
            Short(64, 64, 4, 1),
            *rest,
        ),
        128: Tuning(
            Reduce(32, 32, 8, 3),
            Solve(32, 32, False, 8, 2),
            Solve(16, 16, False, 8, 1),
            Solve(16, 16, False, 8, 2),
            Apply(64, 64, 8, 1),
            Apply(32, 32, 8, 1),
            Short(128, 64, 4, 1),
            *rest,
        ),
    }


TUNINGS = {
    torch.float32: {
        32: _single(
            Reduce(16, 32, 4, 2),
            Solve(32, 16, False, 4, 2),
            Solve(32, 16, False, 4, 1),
            Apply(64, 16, 4, 2),
            Apply(32, 16, 4, 1),
        ),
        64: _single(
            Reduce(16, 64, 8, 2),
            Solve(32, 16, False, 8, 2),
            Solve(32, 16, False, 8, 1),
            Apply(64, 16, 4, 2),
            Apply(32, 16, 4, 1),
        ),
        128: _single(
            Reduce(16, 32, 8, 2),
            Solve(32, 16, False, 8, 2),
            Solve(16, 16, False, 8, 1),
            Apply(64, 16, 8, 2),
            Apply(32, 16, 8, 1),
        ),
    },
    torch.bfloat16: _half(torch.bfloat16),
    torch.float16: _half(torch.float16),
}

TURING = {
    torch.float32: TUNINGS[torch.float32],
    torch.float16: {
        width: dataclasses.replace(tuning, tolerance=torch.finfo(torch.float16).eps / 8)
        for width, tuning in TUNINGS[torch.float32].items()
    },
}
"""Before compute capability 8.0: Triton has no products on tensor cores for it, so operands of half
precision are widened and take the tiles of float32; with others most kernels spilled registers."""
