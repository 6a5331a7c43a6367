"""Who may join an input in flight, and what becomes of one that nobody waits for."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import numpy as np

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.item import AGE_BOUND_S, ItemResult, WorkItem
from osa.service.inference.inflight import InFlightInput, InFlightInputs, PendingRequest, input_key

IDS = [2, 4, 3]
KEY = input_key(IDS, token_vectors=False, spans=None)


class Sky:
    """InFlightInputs over a queue, as the embedder has them."""

    def __init__(self) -> None:
        self.flights = InFlightInputs(lambda key, result: None)
        self.queue = BatchQueue(1000, 100, 100)
        self.loop = asyncio.get_running_loop()

    def ask(self, deadline: float = math.inf) -> tuple[PendingRequest, InFlightInput, bool]:
        """A request of one input: what it waits for, and whether it joined another's."""
        pending = PendingRequest(self.loop, 1)
        joined = self.flights.join(KEY, deadline, pending, 0)
        if joined is not None:
            return pending, joined, True
        item = WorkItem(IDS, deadline=deadline)
        flight = self.flights.begin(KEY, item, pending, 0, self.loop)
        self.queue.put([item])
        return pending, flight, False


def in_the_sky(test: Callable[[Sky], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Sky())

    asyncio.run(run())


def test_a_later_deadline_joins_and_is_served_though_the_first_one_passes() -> None:
    """With a default deadline every later request has a later one."""

    async def test(sky: Sky) -> None:
        soon = time.monotonic() + 0.05
        first, flight, _ = sky.ask(soon)
        second, joined, shared = sky.ask(soon + 60)
        third, _, also_shared = sky.ask()
        assert (shared, also_shared) == (True, True)
        assert joined is flight
        await asyncio.sleep(0.06)
        assert sky.flights.leave([flight], first) == []
        (item,) = sky.queue.take()
        assert item.deadline == math.inf, "the engine would drop it"
        item.deliver(ItemResult(np.ones(2)))
        await asyncio.wait_for(asyncio.gather(second.done, third.done), 5)
        assert not first.done.done()

    in_the_sky(test)


def test_nobody_joins_what_is_served_later_than_it_must_be_or_may_have_been_dropped() -> None:
    async def test(sky: Sky) -> None:
        sky.ask()
        assert not sky.ask(time.monotonic() + AGE_BOUND_S / 2)[2], "it is more urgent"
        passed = Sky()
        passed.ask(time.monotonic() - 0.001)
        assert not passed.ask()[2], "its engine may have found the deadline passed"

    in_the_sky(test)


def test_what_nobody_waits_for_is_dropped_though_a_more_urgent_equal_took_its_place() -> None:
    async def test(sky: Sky) -> None:
        patient, first, _ = sky.ask()
        _, second, joined = sky.ask(time.monotonic() + 1)
        assert not joined
        orphans = sky.flights.leave([first], patient)
        assert orphans == [first.item]
        assert sky.queue.cancel(orphans) == 3
        assert sky.ask()[1] is second

    in_the_sky(test)
