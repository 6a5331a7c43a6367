"""Sequences are cut on the side that was asked for, or refused by place; keys tell them apart."""

from __future__ import annotations

import re

import numpy as np
import pytest

from osa.model.tokenization import Direction
from osa.service.errors import EmptyInputError, ServiceError, ValidationError
from osa.service.inference.inflight import DIGEST_BYTES, input_key
from osa.service.inference.sequences import IdRule, LengthRule, fit_features, fit_ids

ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)


@pytest.mark.parametrize(("direction", "kept"), [("right", slice(0, 3)), ("left", slice(2, 5))])
def test_long_sequences_are_cut(direction: Direction, kept: slice) -> None:
    rule = LengthRule(3, True, direction)
    (features, short), cut = fit_features({0: ROWS, 1: ROWS[:2]}, 2, rule)
    np.testing.assert_array_equal(features, ROWS[kept])
    np.testing.assert_array_equal(short, ROWS[:2])
    assert (cut, features.flags.c_contiguous) == ([2, 0], True)
    ids = [5, 6, 7, 8, 9]
    assert fit_ids({0: ids, 1: [1]}, IdRule(10), rule) == ([ids[kept], [1]], [2, 0])


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        (ROWS, ValidationError, "input 1 has 5 rows, at most 4 are allowed without truncation"),
        (ROWS[:0], EmptyInputError, "input 1 has no rows"),
        (ROWS.reshape(2, 5), ValidationError, "input 1 has rows of 5 numbers, this model takes 2"),
        (
            np.array([[1, np.inf]], dtype=np.float32),
            ValidationError,
            "finite float32 numbers: row 0, column 1 is not",
        ),
    ],
)
def test_what_is_refused(features: np.ndarray, kind: type[ServiceError], message: str) -> None:
    rule = LengthRule(4, False, "right", "rows")
    with pytest.raises(kind, match=re.escape(message)):
        fit_features({0: ROWS[:1], 1: features}, 2, rule)


def test_equal_features_have_equal_keys_of_a_fixed_size() -> None:
    key = input_key(ROWS, False, None, "")
    assert key == input_key(ROWS.copy(), False, None, "")
    assert len(key[0]) == DIGEST_BYTES
    others = [
        input_key(ROWS[:4], False, None, ""),
        input_key(ROWS + 1, False, None, ""),
        input_key(ROWS, True, None, ""),
        input_key(ROWS, False, ((0, 1),), ""),
    ]
    assert len({key, *others}) == 5
