"""Dummies of packed batches: least sizes, multiples of four, and none longer than two tokens."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from osa.export.graph_inputs import dummy_lengths
from osa.model.functional.tiling import ROW_MULTIPLE


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=40),
    least=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_tokens_and_sequences_come_to_multiples(lengths: list[int], least: tuple[int, int]) -> None:
    dummies = dummy_lengths(lengths, *least)
    whole = lengths + dummies
    assert set(dummies) <= {1, 2}
    assert len(whole) % ROW_MULTIPLE == sum(whole) % ROW_MULTIPLE == 0
    assert len(whole) >= least[0]
    assert sum(whole) >= least[1]


def test_a_batch_that_fits_gets_none_and_others_get_few() -> None:
    assert dummy_lengths([3, 1, 5, 7], 2, 2) == []
    for count, tokens in itertools.product(range(1, 9), range(1, 9)):
        assert sum(dummy_lengths([tokens] * count, 2, 2)) <= 3 * ROW_MULTIPLE
