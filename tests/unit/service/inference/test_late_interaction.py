"""MaxSim: its value, its order of arrival, and what it keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from osa.service.batching.item import ItemResult
from osa.service.inference.late_interaction import MaxSim, maxsim

GENERATOR = np.random.default_rng(0)
TOKENS = [GENERATOR.normal(size=(count, 8)).astype(np.float32) for count in (3, 5, 1, 7)]


def test_the_value_is_that_of_its_definition() -> None:
    query, text = (row / np.linalg.norm(row, axis=1, keepdims=True) for row in TOKENS[:2])
    expected = sum(max(float(one @ other) for other in text) for one in query)
    assert maxsim(query, text) == pytest.approx(expected, abs=1e-6)
    assert maxsim(query, query) == pytest.approx(len(query), abs=1e-6)


def test_any_order_of_arrival_gives_the_same_bits_and_keeps_no_vectors() -> None:
    found = set()
    for order in itertools.permutations(range(4)):
        scoring = MaxSim(3)
        for place in order:
            result = ItemResult(TOKENS[place][0], 1.0, TOKENS[place])
            assert scoring.take(place, result).token_vectors is None
        assert not scoring._waiting
        found.add(scoring.scores.tobytes())
    assert len(found) == 1
