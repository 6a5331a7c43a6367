"""Bytes and operations of a case."""

from __future__ import annotations

from benchmarks.kernels.cases import Case
from benchmarks.kernels.roofline import bytes_of, operations_of


def test_counts_follow_the_formula() -> None:
    case = Case(32, 512, "bfloat16", budget=1024, heads=3)
    assert bytes_of(case) == 4 * 1024 * 3 * 32 * 2
    more = operations_of(case, 2.0) - operations_of(case, 0.5)
    assert more > 0
    assert more % (8 * 32**3 * 2 * 3) == 0
    short = Case(32, 8, "float32", budget=8, heads=1)
    assert (operations_of(short, 0.5) - 4 * 8**2 * 32) % (2 * 8**2 * 32) == 0
