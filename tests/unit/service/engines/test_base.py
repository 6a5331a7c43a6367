"""Vectors of spans, pooled from the vectors of their sequence's tokens."""

from __future__ import annotations

import time

import numpy as np
import pytest

from osa.service.engines.base import pool_spans

TOKENS = np.random.default_rng(0).standard_normal((1500, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 1500)],
        [(0, 1), (1499, 1500)],
        [(0, 10), (10, 1500)],
        [(3, 30), (5, 20), (0, 700)],
        [(127, 1409), (128, 1408), (1, 514), (0, 512), (0, 513)],
    ],
)
def test_a_span_is_the_mean_of_its_tokens_or_the_first(spans: list[tuple[int, int]]) -> None:
    means = np.stack([TOKENS[start:stop].mean(axis=0) for start, stop in spans])
    np.testing.assert_allclose(pool_spans(TOKENS, spans, "mean"), means, atol=1e-6)
    short = [place for place, (start, stop) in enumerate(spans) if stop - start <= 512]
    np.testing.assert_array_equal(pool_spans(TOKENS, spans, "mean")[short], means[short])
    firsts = TOKENS[[start for start, _ in spans]]
    np.testing.assert_array_equal(pool_spans(TOKENS, spans, "cls"), firsts)


def test_a_span_has_the_same_bits_beside_others() -> None:
    for span in ((4, 17), (4, 1300)):
        alone = pool_spans(TOKENS, [span], "mean")[0]
        beside = pool_spans(TOKENS, [(0, 1500), span, (2, 5)], "mean")[1]
        np.testing.assert_array_equal(alone, beside)


def test_the_cost_of_a_span_hardly_grows_with_its_length() -> None:
    """As many whole documents as a request may ask for must not hold the engine for long."""
    tokens = np.ones((32_768, 96), dtype=np.float32)
    started = time.process_time()
    for _ in range(20):
        tokens.mean(axis=0)
    direct_s = (time.process_time() - started) / 20
    started = time.process_time()
    pool_spans(tokens, [(0, len(tokens))] * 4096, "mean")
    assert time.process_time() - started < 4096 * direct_s / 4


def test_no_spans_have_no_vectors() -> None:
    assert pool_spans(TOKENS, (), "mean").shape == (0, 6)
