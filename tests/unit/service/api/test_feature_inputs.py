"""Features in JSON: one sequence or several, integers too; everything else by place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from osa.service.api.feature_inputs import parse_features
from osa.service.errors import EmptyInputError, ServiceError, ValidationError

ONE = [[1, 2.5], [3, -4]]


@pytest.mark.parametrize(
    ("value", "sequences"),
    [
        (ONE, [ONE]),
        ([ONE], [ONE]),
        ([ONE, [[0, 0]]], [ONE, [[0, 0]]]),
        ([[2**63, -(2**63)]], [[[2.0**63, -(2.0**63)]]]),
        ([[3e38, 1e-46]], [[[3e38, 0]]]),
    ],
)
def test_one_sequence_or_several(value: Any, sequences: list[Any]) -> None:
    found = parse_features(value, "inputs", 2)
    assert len(found) == len(sequences)
    for array, expected in zip(found, sequences, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.array(expected, dtype=np.float32))


SHAPE = "must be one sequence of features, rows of 2 numbers, or a list of such sequences"


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ([], EmptyInputError, "inputs is empty"),
        ([[]], EmptyInputError, "inputs[0] is empty"),
        ([ONE, []], EmptyInputError, "inputs[1] is empty"),
        ("text", ValidationError, f"inputs {SHAPE}, got a string"),
        (None, ValidationError, "got null"),
        (["a"], ValidationError, f"inputs {SHAPE}, got a list that begins with a string"),
        ([1, 2], ValidationError, "got a list that begins with an integer"),
        ([ONE, "a"], ValidationError, f"inputs[1] {SHAPE}, got a string"),
        ([[1, 2], [3]], ValidationError, "inputs[1] must be a row of 2 numbers, got 1"),
        ([[1, 2], 3], ValidationError, "inputs[1] must be a row of 2 numbers, got an integer"),
        ([[1, 2, 3]], ValidationError, "inputs[0] must be a row of 2 numbers, got 3"),
        ([[[]]], ValidationError, "inputs[0][0] must be a row of 2 numbers, got 0"),
        ([ONE, [[1, 2], [3]]], ValidationError, "inputs[1][1] must be a row of 2 numbers, got 1"),
        ([ONE, [[1, "2"]]], ValidationError, "inputs[1][0][1] must be a number, got a string"),
        ([[1, True]], ValidationError, "inputs[0][1] must be a number, got a boolean"),
        ([[1, None]], ValidationError, "inputs[0][1] must be a number, got null"),
        ([ONE, [[1, [2]]]], ValidationError, "inputs[1][0][1] must be a number, got a list"),
        ([ONE, [[1, 2], [4e38, 0]]], ValidationError, "inputs[1][1][0] must be a finite float32"),
    ],
)
def test_what_is_no_sequence_is_named_by_place(
    value: Any, kind: type[ServiceError], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        parse_features(value, "inputs", 2)
    assert caught.value.param == "inputs"
