"""Growth of memory, and errors."""

from __future__ import annotations

import pytest

from benchmarks.serving.ours import soak
from tests.unit.benchmarks.serving.conftest import make_goodput


def test_growth_is_what_comes_after_warming_up() -> None:
    warming = [50.0, 80.0, 95.0, 99.0]
    assert soak.growth(warming + [100.0] * 16) == 0
    assert soak.growth(warming + [100.0 + step for step in range(16)]) == pytest.approx(
        0.118, abs=0.002
    )
    with pytest.raises(ValueError, match="too few"):
        soak.growth([1.0, 2.0, 3.0])


def test_errors_are_all_that_is_not_right() -> None:
    assert soak.errors(make_goodput(0.8)) == 10
    assert soak.errors(make_goodput(0.8, verdicts={"right": 3})) == 0
