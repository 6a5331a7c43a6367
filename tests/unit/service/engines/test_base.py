"""Vectors of spans, pooled from the vectors of their sequence's tokens."""

from __future__ import annotations

import numpy as np
import pytest

from osa.service.engines.base import pool_spans

TOKENS = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "spans", [[(0, 40)], [(0, 1), (39, 40)], [(0, 10), (10, 40)], [(3, 30), (5, 20), (0, 40)]]
)
def test_a_span_is_the_mean_of_its_tokens_or_the_first(spans: list[tuple[int, int]]) -> None:
    means = np.stack([TOKENS[start:stop].mean(axis=0) for start, stop in spans])
    np.testing.assert_allclose(pool_spans(TOKENS, spans, "mean"), means, atol=1e-6)
    firsts = TOKENS[[start for start, _ in spans]]
    np.testing.assert_array_equal(pool_spans(TOKENS, spans, "cls"), firsts)


def test_a_span_has_the_same_bits_beside_others() -> None:
    alone = pool_spans(TOKENS, [(4, 17)], "mean")[0]
    beside = pool_spans(TOKENS, [(0, 40), (4, 17), (2, 5)], "mean")[1]
    np.testing.assert_array_equal(alone, beside)


def test_no_spans_have_no_vectors() -> None:
    assert pool_spans(TOKENS, (), "mean").shape == (0, 6)
