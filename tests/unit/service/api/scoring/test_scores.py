"""Scores of logits: exact at the ends, each by itself, equal ones in their order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.api.scoring.scores import descending, label_scores, sigmoid, softmax

LOGITS = st.floats(-1e4, 1e4, width=32)


@given(LOGITS)
def test_sigmoid_is_finite_and_symmetric(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0)


@given(st.lists(LOGITS, min_size=1, max_size=8))
def test_softmax_adds_up_to_one_whatever_is_added(logits: list[float]) -> None:
    found = softmax(logits)
    assert math.fsum(found) == pytest.approx(1.0)
    assert softmax([logit + 8.0 for logit in logits]) == pytest.approx(found, abs=1e-9)


def test_labels_are_scored_by_the_rule_of_the_model() -> None:
    logits = np.array([0.0, math.log(3.0)], dtype=np.float32)
    np.testing.assert_allclose(label_scores(logits, "softmax", False), [0.25, 0.75], atol=1e-7)
    np.testing.assert_allclose(label_scores(logits, "sigmoid", False), [0.5, 0.75], atol=1e-7)
    assert label_scores(logits, "softmax", False).dtype == np.float32
    assert label_scores(logits, "softmax", True) is logits


def test_equal_scores_keep_their_order() -> None:
    assert descending(np.array([0.5, 2.0, 0.5, 2.0], dtype=np.float32)) == [1, 3, 0, 2]
