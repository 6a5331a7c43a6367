"""``osa top`` without a terminal: growth, quantiles, content of the screen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.service.observability.metrics import (
    BATCH_FILL,
    BATCH_SIZE,
    BATCH_TOKENS,
    BUSY_SECONDS,
    COMPUTED_TOKENS,
    DURATION_BUCKETS,
    Metrics,
)
from osa.service.top.scrape import DURATION, Reading, ReadingError, growth, parse, quantiles
from osa.service.top.snapshot import compare
from osa.service.top.view import render, sparkline

COUNTER = 'c{{a="x"}} {}\nc{{a="y"}} {}\n'
EMPTY = f'{DURATION}_bucket{{le="+Inf"}} 0\n'


def read(metrics: Metrics, at_s: float = 0.0) -> Reading:
    return parse(metrics.render().decode(), at_s)


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-4, 20), min_size=1, max_size=60),
    st.lists(st.floats(1e-4, 20), max_size=20),
    st.sampled_from([0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(
    seconds: list[float], earlier: list[float], share: float
) -> None:
    metrics = Metrics("m")
    for duration in earlier:
        metrics.observe_durations({"total": duration})
    before = read(metrics)
    for duration in seconds:
        metrics.observe_durations({"total": duration})
    (found,) = quantiles(before, read(metrics), DURATION, (share,))
    true = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    edges = np.array([0.0, *DURATION_BUCKETS])
    place = int(np.searchsorted(edges, true))
    assert found is not None
    assert edges[place - 1] * (1 - 1e-9) <= found <= edges[place] * (1 + 1e-9)


def test_no_new_observation_has_no_quantile_and_a_huge_one_the_last_bound() -> None:
    metrics = Metrics("m")
    metrics.observe_durations({"total": 1.0})
    reading = read(metrics)
    assert quantiles(reading, reading, DURATION, (0.5,)) == [None]
    metrics.observe_durations({"total": 1e9})
    (found,) = quantiles(reading, read(metrics), DURATION, (0.5,))
    assert found == pytest.approx(DURATION_BUCKETS[-1])


def test_growth_sums_labels_and_survives_a_restart() -> None:
    before, after = (parse(EMPTY + COUNTER.format(*pair), 0) for pair in ((5, 7), (8, 2)))
    assert growth(before, after, "c") == 3 + 2, "y was begun anew"
    assert growth(before, after, "c", a="x") == 3
    assert growth(before, after, "d") is None


@pytest.mark.parametrize("text", ["<html>", "a b c d\n", "up 1\n", ""])
def test_other_answers_are_refused(text: str) -> None:
    with pytest.raises(ReadingError, match="/metrics"):
        parse(text, 0.0)


def test_a_snapshot_says_what_happened_in_between() -> None:
    metrics = Metrics("m")
    before = read(metrics, 10.0)
    metrics.count_request(3)
    for inputs, tokens in ((3, 30), (1, 10)):
        metrics.observe(BATCH_SIZE, inputs)
        metrics.observe(BATCH_TOKENS, tokens)
        metrics.observe(BATCH_FILL, tokens / 200)
    metrics.add(COMPUTED_TOKENS, 40)
    metrics.add(BUSY_SECONDS, 1.5)
    metrics.count_success([10, 10, 10], truncated=1)
    metrics.count_failure("overloaded")
    metrics.count_failure("overloaded")
    metrics.count_failure("validation")
    snapshot = compare(before, read(metrics, 12.0), {"max_batch_tokens": 200}, ready=True)
    assert snapshot.requests_rate == 0.5
    assert snapshot.texts_rate == 1.5
    assert (snapshot.tokens_rate, snapshot.engine_busy) == (20, 0.75)
    assert (snapshot.batch_texts, snapshot.batch_tokens, snapshot.batch_fill) == (2, 20, 0.1)
    assert snapshot.failures == {"overloaded": 2, "validation": 1}
    assert snapshot.truncated_rate == 0.5
    assert snapshot.ready is True
    assert snapshot.cache_hits is None, "nothing was looked up"
    again = compare(read(metrics, 12.0), read(metrics, 14.0), {})
    assert (again.failures, again.failures_total) == ({}, {"overloaded": 2, "validation": 1})
    assert (again.batch_tokens, again.p50_s) == (None, None)


def test_newer_metrics_are_preferred_where_a_server_has_them() -> None:
    text = (
        "osa_ready 0\nosa_engine_up 1\n"
        "osa_computed_tokens_total {}\nosa_batch_token_limit 50\n"
        "osa_cache_hits_total {}\nosa_cache_misses_total {}\nosa_engine_busy_seconds_total {}\n"
    )
    before = parse(EMPTY + text.format(0, 0, 0, 0), 0.0)
    after = parse(EMPTY + text.format(80, 3, 1, 1.5), 2.0)
    snapshot = compare(before, after, {"max_batch_tokens": 200}, ready=True)
    assert (snapshot.ready, snapshot.engine_up) == (False, True)
    assert (snapshot.tokens_rate, snapshot.cache_hits, snapshot.engine_busy) == (40, 0.75, 0.75)
    assert (snapshot.batch_token_limit, snapshot.restarts) == (50, None)


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_the_view_fits_and_names_what_matters(width: int) -> None:
    metrics = Metrics("m")
    before = read(metrics, 0.0)
    metrics.observe_durations({"total": 0.02, "queue": 0.001, "inference": 0.01})
    metrics.count_failure("deadline")
    info = {"model_id": "m", "backend": "eager", "kernel": "native"}
    snapshot = compare(before, read(metrics, 1.0), info, ready=True)
    lines = render(snapshot, "http://h:1", [1.0, 5.0, 2.0], width, colour=False)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "ready" in text
    if width >= 80:
        for name in ("requests/s", "p99", "backlog", "fill", "deadline 1 (+1)", "eager native"):
            assert name in text
    gone = dataclasses.replace(snapshot, engine_up=False)
    assert render(gone, "http://h:1", [], width)[1].startswith("\x1b[31mengine down")


def test_bars_are_as_high_as_their_share() -> None:
    assert sparkline([0, 1, 2, 4, 8], 4) == "▁▂▄█"
    assert sparkline([0.0, 0.0], 5) == "  "
    assert sparkline([], 5) == sparkline([1.0], 0) == ""
