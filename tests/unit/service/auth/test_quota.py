"""Token buckets: a request takes at most the bucket, debts are bounded and paid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.auth.quota import TokenBucket
from osa.service.errors import QuotaError, TooManyTokensError


def test_a_bucket_refills_and_says_when() -> None:
    bucket = TokenBucket(600)
    start = bucket._at
    bucket.take(500, start)
    with pytest.raises(QuotaError) as refused:
        bucket.take(200, start)
    assert refused.value.retry_after_s == 10
    bucket.take(200, start + 10)


def test_more_than_a_bucket_is_refused_for_good_and_costs_nothing() -> None:
    bucket = TokenBucket(1000)
    with pytest.raises(TooManyTokensError, match=r"192000 tokens.*1000 a minute.*1000 a request"):
        bucket.take(192_000)
    assert TooManyTokensError("").retry_after_s is None
    bucket.take(1000)


def test_a_larger_request_waits_for_a_full_bucket_and_its_debt_is_paid() -> None:
    bucket = TokenBucket(600, most=6000)
    start = bucket._at
    bucket.take(6000, start)
    assert bucket.level == -5400
    with pytest.raises(QuotaError) as refused:
        bucket.take(6000, start)
    assert refused.value.retry_after_s == 600
    with pytest.raises(QuotaError):
        bucket.take(1, start + 540)
    bucket.take(1, start + 541)
    with pytest.raises(TooManyTokensError):
        bucket.take(6001, start + 10_000)


@given(
    requests=st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 100)), max_size=40),
    most=st.integers(600, 3000),
)
def test_no_more_is_served_than_the_quota_and_one_request(
    requests: list[tuple[int, float]], most: int
) -> None:
    bucket = TokenBucket(600, most)
    start = now = bucket._at
    served = 0
    for tokens, pause_s in requests:
        now += pause_s
        try:
            bucket.take(tokens, now)
        except (QuotaError, TooManyTokensError):
            continue
        served += tokens
        assert served <= 600 + (now - start) * 10 + (most - 600) + 1e-6
        assert bucket.level >= 600 - most - 1e-6


def test_what_is_refused_for_other_reasons_costs_nothing() -> None:
    bucket = TokenBucket(100)
    bucket.take(80, bucket._at)
    bucket.give_back(80)
    bucket.take(100, bucket._at)


def test_another_quota_keeps_the_debt_and_what_is_left() -> None:
    bucket = TokenBucket(600, most=1200)
    bucket.take(1200, bucket._at)
    bucket.change(60, 60)
    assert bucket.level == pytest.approx(-600, abs=60)
    with pytest.raises(QuotaError):
        bucket.take(1)
    full = TokenBucket(600)
    full.change(60, 60)
    with pytest.raises(TooManyTokensError):
        full.take(61)
    full.take(60)
