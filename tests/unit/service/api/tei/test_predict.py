"""Which inputs of ``/predict`` are a batch."""

from __future__ import annotations

from typing import Any

import pytest

from osa.service.api.tei.predict import parse_texts


@pytest.mark.parametrize(
    ("value", "expected", "batch"),
    [
        ("a", ["a"], False),
        (["a"], ["a"], False),
        (["a", "b"], [("a", "b")], False),
        (["", "b"], [("", "b")], False),
        ([["a"]], ["a"], True),
        ([["a", "b"], ["c"]], [("a", "b"), "c"], True),
    ],
)
def test_a_list_of_lists_is_a_batch(value: Any, expected: list[Any], batch: bool) -> None:
    assert parse_texts(value) == (expected, batch)
