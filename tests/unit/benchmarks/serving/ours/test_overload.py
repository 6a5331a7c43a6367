"""Requirements under overload."""

from __future__ import annotations

import pytest

from benchmarks.serving.ours import overload
from tests.unit.benchmarks.serving.conftest import make_goodput


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, None),
        ({"statuses": {"200": 90, "500": 1}}, "no 5xx"),
        ({"verdicts": {"right": 90, "lost": 1}}, "no wrong, failed or lost answer"),
        ({"without_retry_after": 1}, "429 with Retry-After"),
        ({"verdicts": {"right": 90, "late": 1}}, "accepted requests within their deadline"),
        ({"good": 42.0}, "goodput at least 95% of that at 90 %"),
    ],
)
def test_each_requirement_under_overload_can_fail(
    changes: dict[str, object], broken: str | None
) -> None:
    normal, over = make_goodput(0.9), make_goodput(1.2, **changes)
    failed = [name for name, held in overload.requirements(normal, over).items() if not held]
    assert failed == ([] if broken is None else [broken])
    assert ("NO" in overload.render(normal, over)) is (broken is not None)
