"""The plan of a batch as properties, and the queue under threads."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.auth.tenants import Tenant
from osa.service.batching.batch_queue import COMPETING, LEAST_BUDGET, SAFETY, BatchQueue
from osa.service.batching.item import AGE_BOUND_S, WorkItem
from osa.service.batching.planner import LOOK_AHEAD, plan_batch
from osa.service.errors import OverloadedError, UnavailableError
from tests.conftest import PATIENCE_S

lengths = st.lists(st.integers(1, 100), max_size=30)


@given(waiting=lengths, budget=st.integers(1, 200), most=st.integers(1, 10))
def test_a_plan_keeps_its_budget_and_serves_the_most_urgent(
    waiting: list[int], budget: int, most: int
) -> None:
    chosen = plan_batch(waiting, budget, most)
    assert len(set(chosen)) == len(chosen) <= most
    assert bool(chosen) == bool(waiting)
    if chosen:
        assert chosen[0] == 0
        assert sum(waiting[place] for place in chosen) <= budget or len(chosen) == 1


@given(waiting=lengths, budget=st.integers(1, 200))
def test_nothing_that_fits_is_left_behind(waiting: list[int], budget: int) -> None:
    chosen = plan_batch(waiting, budget, 100)
    room = budget - sum(waiting[place] for place in chosen)
    assert all(waiting[place] > room for place in range(len(waiting)) if place not in chosen)


def test_a_plan_looks_ahead_no_further_than_it_may() -> None:
    read = []

    def endless() -> Iterator[int]:
        for length in itertools.chain([6], itertools.repeat(7)):
            read.append(length)
            yield length

    assert plan_batch(endless(), 10, 100) == [0]
    assert len(read) == 1 + LOOK_AHEAD


def item(tokens: int, deadline: float = math.inf) -> WorkItem:
    return WorkItem([1] * tokens, lambda result: None, deadline)


def batches_of(queue: BatchQueue) -> Iterator[list[WorkItem]]:
    """Batches until the queue is closed and empty."""
    while queue.wait():
        yield queue.take()


@given(waiting=st.lists(st.tuples(st.integers(1, 99), st.floats(0, 100)), max_size=30))
def test_everything_is_served_in_the_end(waiting: list[tuple[int, float]]) -> None:
    queue = BatchQueue(10**6, 100, 8)
    queue.put([item(tokens, time.monotonic() + due) for tokens, due in waiting])
    queue.close()
    batches = list(batches_of(queue))
    served = [work.tokens for batch in batches for work in batch]
    assert sorted(served) == sorted(tokens for tokens, _ in waiting)
    assert (queue.tokens, len(queue)) == (0, 0)


def test_urgent_items_come_first_but_old_ones_do_not_starve() -> None:
    queue = BatchQueue(100, 1, 1)
    now = time.monotonic()
    patient, hurried, later = item(1), item(1, now + 1), item(1, now + 1000)
    old = item(1)
    old.arrived = now - 2 * AGE_BOUND_S
    queue.put([patient, hurried, later, old])
    queue.close()
    assert [batch[0] for batch in batches_of(queue)] == [old, hurried, patient, later]


def test_put_is_all_or_nothing_and_says_when_to_come_back() -> None:
    queue = BatchQueue(max_tokens=10, max_batch_tokens=10, max_batch_items=10)
    queue.put([item(6)])
    queue.observe(tokens=20, seconds=10.0)
    with pytest.raises(OverloadedError, match="6 of 10 tokens, no room for 5 more") as caught:
        queue.put([item(1), item(4)])
    assert caught.value.retry_after_s == 3
    assert (queue.tokens, len(queue)) == (6, 1)
    queue.put([item(4)])
    assert queue.backlog_s() == 5.0


def test_a_deadline_that_has_passed_is_no_overload() -> None:
    queue = BatchQueue(10, 10, 10)
    queue.put([item(1)])
    queue.observe(1, 1.0)
    queue.put([item(1, time.monotonic() - 1)])  # 504 by whoever waits; 429 would be tried again


def test_a_closed_queue_takes_nothing_more() -> None:
    queue = BatchQueue(10, 10, 10)
    queue.close()
    with pytest.raises(UnavailableError):
        queue.put([item(1)])


def test_the_rate_weighs_batches_by_their_time() -> None:
    queue = BatchQueue(10**6, 10, 10)
    queue.observe(tokens=10_000, seconds=1.0)
    queue.observe(tokens=3, seconds=0.01)
    queue.put([item(1000)])
    assert queue.backlog_s() == pytest.approx(0.1, rel=0.05)


def test_a_still_engine_does_not_hoard_what_clients_drop() -> None:
    queue = BatchQueue(10**6, 10, 10)
    for _ in range(3000):
        work = [item(1)]
        queue.put(work)
        assert queue.cancel(work) == 1
    assert sum(len(flow._heap) for flow in queue._flows._flows.values()) < 2000
    assert queue.tokens == 0


def test_cancelled_items_leave_at_once() -> None:
    queue = BatchQueue(100, 100, 100)
    kept, dropped = item(3), item(5)
    queue.put([kept, dropped])
    assert queue.cancel([dropped]) == 5
    assert queue.cancel([dropped]) == 0
    assert dropped.cancelled
    assert queue.take() == [kept]
    assert queue.tokens == 0


def test_a_closed_queue_gives_what_it_holds_and_then_ends() -> None:
    queue = BatchQueue(100, 4, 100)
    queue.put([item(3), item(3)])
    queue.close()
    sizes = [len(batch) for batch in batches_of(queue)]
    assert sizes == [1, 1]
    assert queue.finished
    assert not queue.wait()


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert BatchQueue(1, 1, 1).take() == []


def test_a_batch_that_did_not_fit_makes_later_ones_smaller_until_many_fitted() -> None:
    queue = BatchQueue(10**6, 100, 100)
    queue.put([item(10) for _ in range(40)])
    assert len(queue.take()) == 10
    queue.memory_limit.exceeded(100)
    assert len(queue.take()) == 5
    queue.memory_limit.exceeded(10)
    assert [work.tokens for work in queue.take()] == [10], "an item is never too large to be tried"
    for _ in range(64 * 40):
        queue.observe(10, 0.1)
    assert queue.memory_limit.tokens == 100


def test_a_batch_takes_no_longer_than_its_target() -> None:
    queue = BatchQueue(10**6, 100_000, 1000, target_batch_s=0.1)
    queue.put([item(100) for _ in range(300)])
    queue.observe(100_000, 1.0)
    assert len(queue.take()) == 100
    queue.observe(100_000, 10_000.0)
    assert len(queue.take()) == LEAST_BUDGET // 100
    assert queue.expected_s(50) == pytest.approx(50 / queue.tokens_per_second())


def test_batches_are_smaller_while_tenants_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = BatchQueue(10**6, 100_000, 1000, target_batch_s=0.1)
    heavy, light = Tenant("heavy"), Tenant("light")
    queue.put([item(100) for _ in range(300)], heavy)
    queue.observe(100_000, 1.0)
    assert len(queue.take()) == 100
    queue.put([item(100)], light)
    batch = queue.take()
    assert len(batch) == 100 // COMPETING
    assert next(work.flow.tenant for work in batch if work.flow) == light
    assert len(queue.take()) == 100 // COMPETING, "the other will be back"
    monkeypatch.setattr("osa.service.batching.batch_queue.COMPETING_S", 0.0)
    assert len(queue.take()) == 100


def test_it_knows_whether_others_have_just_come() -> None:
    queue, first, second = BatchQueue(1000, 100, 100), Tenant("first"), Tenant("second")
    assert not queue.serves_others(first, math.inf)
    queue.put([item(5)], first)
    assert not queue.serves_others(first, math.inf)
    assert queue.serves_others(second, PATIENCE_S)
    queue.put([item(5)], second)
    queue.put([item(5)], second)
    assert queue.serves_others(first, PATIENCE_S)
    assert queue.serves_others(second, PATIENCE_S), "the first came before it"
    time.sleep(0.002)
    assert not queue.serves_others(first, 0.001)


def test_what_cannot_be_in_time_is_refused_with_the_time_to_wait() -> None:
    queue = BatchQueue(10**6, 100, 100)
    queue.observe(1000, 1.0)
    now = time.monotonic()
    queue.put([item(3000, now + 60)])
    with pytest.raises(OverloadedError) as refused:
        queue.put([item(100_000, now + 63)])
    # 103 000 tokens at 1000 a second and a margin, 63 s are left
    assert refused.value.retry_after_s == math.ceil(SAFETY * 103 - 63)
    queue.put([item(10, now + 0.5)])  # more urgent than all that waits: in time
    queue.put([item(100_000)])  # has no deadline


def test_an_idle_engine_is_asked_however_short_the_deadline() -> None:
    queue = BatchQueue(10**6, 100, 100)
    queue.observe(10, 1.0)
    queue.put([item(50, time.monotonic() + 0.1)])


def test_what_is_in_progress_counts_until_its_batch_ends() -> None:
    queue = BatchQueue(10**6, 100, 100)
    queue.observe(100, 1.0)
    queue.put([item(100)])
    batch = queue.take()
    with pytest.raises(OverloadedError, match="100 tokens are served before"):
        queue.put([item(100, time.monotonic() + 1.1)])
    queue.end(batch)
    queue.put([item(100, time.monotonic() + 1.1)])


def test_many_threads_lose_nothing() -> None:
    queue = BatchQueue(10**9, 50, 7)
    taken: list[int] = []

    def consume() -> None:
        while queue.wait():
            taken.extend(work.tokens for work in queue.take())

    def produce(seed: int) -> None:
        for index in range(200):
            queue.put([item(1 + (seed + index) % 40)])

    consumer = threading.Thread(target=consume)
    consumer.start()
    producers = [threading.Thread(target=produce, args=(seed,)) for seed in range(4)]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    queue.close()
    consumer.join(timeout=PATIENCE_S)
    expected = sorted(1 + (seed + index) % 40 for seed in range(4) for index in range(200))
    assert sorted(taken) == expected
