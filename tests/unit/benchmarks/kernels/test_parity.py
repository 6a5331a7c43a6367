"""Errors against float64."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels.cases import Case, Layout, make_operands
from benchmarks.kernels.implementations import (
    IMPLEMENTATIONS,
    Implementation,
)
from benchmarks.kernels.parity import angle_of, check, compared_pairs


@pytest.mark.parametrize(("width", "length"), [(32, 8), (32, 512), (64, 128), (128, 512)])
def test_angles_are_those_of_the_packaged_model(width: int, length: int) -> None:
    case = Case(width, length, "float32", budget=64)
    assert 0.2 < angle_of(make_operands(case), compared_pairs(case)) < 1.1


@pytest.mark.parametrize("layout", ["padded", "packed", "mixed"])
@pytest.mark.parametrize("length", [8, 100])
def test_every_exact_implementation_is_exact(layout: Layout, length: int) -> None:
    result = check(Case(32, length, "float32", layout, budget=200, heads=2), IMPLEMENTATIONS, "cpu")
    assert set(result.errors) == {"osa", "osa_gram", "osa_qr"}
    assert result.failed == []


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_wrong_result_is_red(value: float) -> None:
    """Values that are not finite are found in all sequences, not only in the compared ones."""

    def wrong(operands: object) -> torch.Tensor:
        result = torch.zeros(2, 2, 8, 32)
        return result.fill_(value)

    implementation = Implementation("osa", wrong, exact=True, gated=True)
    result = check(Case(32, 8, "float32", budget=16, heads=2), [implementation], "cpu")
    assert result.failed == ["osa"]
