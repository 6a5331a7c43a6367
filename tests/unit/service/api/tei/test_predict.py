"""Which inputs of ``/predict`` are a batch, and its labels an input at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from osa.service.api.tei.predict import parse_texts, predictions
from osa.service.inference.request import Embedded


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


def test_labels_are_written_an_input_at_a_time_the_largest_first() -> None:
    """So that writing many of them can end between two."""
    about: Any = SimpleNamespace(labels=["a", "b"], score="softmax")
    rows = predictions(Embedded(np.array([[0, 1], [3, 2]], np.float32)), about, raw=True)
    assert next(rows) == [{"score": 1.0, "label": "b"}, {"score": 0.0, "label": "a"}]
    assert [[entry["label"] for entry in row] for row in rows] == [["a", "b"]]
