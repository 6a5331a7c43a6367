"""Lengths divide the rows of a tensor, or say which of them are padding."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.api.kserve.feature_tensors import split_features
from osa.service.errors import EmptyInputError, ServiceError, ValidationError


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_rows_end_to_end_and_padded_rows_are_the_same_sequences(lengths: list[int]) -> None:
    packed = np.arange(sum(lengths) * 2, dtype=np.float32).reshape(-1, 2)
    sequences = split_features(packed, np.array(lengths))
    assert [len(rows) for rows in sequences] == lengths
    np.testing.assert_array_equal(np.concatenate(sequences), packed)
    padded = np.full((len(lengths), max(lengths), 2), 7, dtype=np.float32)
    for place, rows in enumerate(sequences):
        padded[place, : len(rows)] = rows
    for left, right in zip(split_features(padded, np.array(lengths)), sequences, strict=True):
        np.testing.assert_array_equal(left, right)


def test_without_lengths_there_is_one_sequence_or_all_are_full() -> None:
    assert [rows.shape for rows in split_features(np.ones((3, 2)), None)] == [(3, 2)]
    assert [rows.shape for rows in split_features(np.ones((2, 3, 4)), None)] == [(3, 4), (3, 4)]


@pytest.mark.parametrize(
    ("shape", "lengths", "kind", "message"),
    [
        ((3, 2), [1, 1], ValidationError, "add up to the 3 rows of features, got 2"),
        ((3, 2), [2, 0, 1], EmptyInputError, "lengths[1] is 0"),
        ((3, 2), [4, -1], ValidationError, "lengths[1] is negative"),
        ((3, 2), [1, 2**62], ValidationError, f"lengths[1] is {2**62}, features has 3 rows"),
        ((2, 3, 2), [3], ValidationError, "lengths must have shape [2]"),
        ((2, 3, 2), [3, 4], ValidationError, "lengths[1] is 4, features has 3 rows"),
    ],
)
def test_lengths_that_do_not_fit(
    shape: tuple[int, ...], lengths: list[int], kind: type[ServiceError], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        split_features(np.ones(shape, dtype=np.float32), np.array(lengths))
