"""The plan of a batch as properties, and the queue under threads."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.batching import BatchQueue, WorkItem, plan_batch
from osa.service.errors import OverloadedError

items = st.lists(st.tuples(st.integers(1, 100), st.sampled_from([1.0, 2.0, math.inf])), max_size=30)


@given(waiting=items, budget=st.integers(1, 200), most=st.integers(1, 10))
def test_a_plan_keeps_its_budget_and_serves_the_most_urgent(
    waiting: list[tuple[int, float]], budget: int, most: int
) -> None:
    lengths, deadlines = [length for length, _ in waiting], [due for _, due in waiting]
    chosen = plan_batch(lengths, deadlines, budget, most)
    assert len(set(chosen)) == len(chosen) <= most
    assert bool(chosen) == bool(waiting)
    if chosen:
        assert chosen[0] == min(range(len(waiting)), key=lambda place: deadlines[place])
        tokens = sum(lengths[place] for place in chosen)
        assert tokens <= budget or len(chosen) == 1


@given(waiting=items, budget=st.integers(1, 200))
def test_nothing_that_fits_is_left_behind(waiting: list[tuple[int, float]], budget: int) -> None:
    lengths = [length for length, _ in waiting]
    chosen = plan_batch(lengths, [due for _, due in waiting], budget, 100)
    room = budget - sum(lengths[place] for place in chosen)
    assert all(lengths[place] > room for place in range(len(waiting)) if place not in chosen)


@given(waiting=items)
def test_everything_is_served_in_the_end(waiting: list[tuple[int, float]]) -> None:
    left = list(range(len(waiting)))
    rounds = 0
    while left:
        chosen = plan_batch(
            [waiting[place][0] for place in left], [waiting[place][1] for place in left], 100, 8
        )
        left = [place for index, place in enumerate(left) if index not in chosen]
        rounds += 1
    assert rounds <= len(waiting)


def item(tokens: int) -> WorkItem:
    return WorkItem([1] * tokens, lambda result: None)


def test_put_is_all_or_nothing_and_says_when_to_come_back() -> None:
    queue = BatchQueue(max_tokens=10, max_batch_tokens=10, max_batch_items=10)
    queue.put([item(6)])
    queue.rate = 2.0
    with pytest.raises(OverloadedError, match="6 of 10 tokens, no room for 5 more") as caught:
        queue.put([item(1), item(4)])
    assert caught.value.retry_after_s == 3
    assert (queue.tokens, len(queue)) == (6, 1)
    queue.put([item(4)])
    assert queue.backlog_s() == 5.0


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
    sizes = [len(batch) for batch in iter(queue.take, None)]
    assert sizes == [1, 1]
    assert queue.take() is None


def test_an_empty_queue_waits_no_longer_than_told() -> None:
    assert BatchQueue(1, 1, 1).take(timeout_s=0.01) == []


def test_many_threads_lose_nothing() -> None:
    queue = BatchQueue(10**9, 50, 7)
    taken: list[int] = []

    def consume() -> None:
        while (batch := queue.take()) is not None:
            taken.extend(work.tokens for work in batch)

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
    consumer.join(timeout=30)
    expected = sorted(1 + (seed + index) % 40 for seed in range(4) for index in range(200))
    assert sorted(taken) == expected
