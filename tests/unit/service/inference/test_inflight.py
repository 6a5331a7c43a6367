"""Which inputs may join an in-flight input, and what happens to one without waiting requests."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Awaitable, Callable

import numpy as np

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.item import AGE_BOUND_S, ItemResult, WorkItem
from osa.service.inference.inflight import InFlightInput, InFlightInputs, PendingRequest, input_key

IDS = [2, 4, 3]
KEY = input_key(IDS, token_vectors=False, spans=None, tenant="")


class Setup:
    """InFlightInputs with a queue, as in the embedder."""

    def __init__(self) -> None:
        self.inputs = InFlightInputs(lambda key, result: None)
        self.queue = BatchQueue(1000, 100, 100)
        self.loop = asyncio.get_running_loop()

    def ask(self, deadline: float = math.inf) -> tuple[PendingRequest, InFlightInput, bool]:
        """Submit a request of one input; returns it, its input, and whether it joined another's."""
        pending = PendingRequest(self.loop, 1)
        joined = self.inputs.join(KEY, deadline, pending, 0)
        if joined is not None:
            return pending, joined, True
        item = WorkItem(IDS, deadline=deadline)
        in_flight = self.inputs.begin(KEY, item, pending, 0, self.loop)
        self.queue.put([item])
        return pending, in_flight, False


def run_with_setup(test: Callable[[Setup], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Setup())

    asyncio.run(run())


def test_a_later_deadline_joins_and_is_served_though_the_first_one_passes() -> None:
    """With a default deadline, later requests have later deadlines."""

    async def test(setup: Setup) -> None:
        soon = time.monotonic() + 0.05
        first, in_flight, _ = setup.ask(soon)
        second, joined, shared = setup.ask(soon + 60)
        third, _, also_shared = setup.ask()
        assert (shared, also_shared) == (True, True)
        assert joined is in_flight
        await asyncio.sleep(0.06)
        assert setup.inputs.leave([in_flight], first) == []
        (item,) = setup.queue.take()
        assert item.deadline == math.inf, "the engine would drop it"
        item.deliver(ItemResult(np.ones(2)))
        await asyncio.wait_for(asyncio.gather(second.done, third.done), 5)
        assert not first.done.done()

    run_with_setup(test)


def test_nobody_joins_what_is_served_later_than_it_must_be_or_may_have_been_dropped() -> None:
    async def test(setup: Setup) -> None:
        setup.ask()
        assert not setup.ask(time.monotonic() + AGE_BOUND_S / 2)[2], "it is more urgent"
        passed = Setup()
        passed.ask(time.monotonic() - 0.001)
        assert not passed.ask()[2], "its engine may have found the deadline passed"

    run_with_setup(test)


def test_a_request_may_leave_some_of_its_places() -> None:
    async def test(setup: Setup) -> None:
        pending, in_flight, _ = setup.ask()
        assert setup.inputs.join(KEY, math.inf, pending, 1) is in_flight
        assert setup.inputs.leave([in_flight], pending, [1, 2]) == []
        assert in_flight.waiters == [(pending, 0)]
        assert setup.inputs.leave([in_flight], pending) == [in_flight.item]

    run_with_setup(test)


def test_what_nobody_waits_for_is_dropped_though_a_more_urgent_equal_took_its_place() -> None:
    async def test(setup: Setup) -> None:
        patient, first, _ = setup.ask()
        _, second, joined = setup.ask(time.monotonic() + 1)
        assert not joined
        orphans = setup.inputs.leave([first], patient)
        assert orphans == [first.item]
        assert setup.queue.cancel(orphans) == 3
        assert setup.ask()[1] is second

    run_with_setup(test)


def test_nothing_of_an_answered_or_left_input_waits_for_the_collector() -> None:
    async def test(setup: Setup) -> None:
        pending, in_flight, _ = setup.ask()
        kept: list[weakref.ref[object]] = [weakref.ref(in_flight), weakref.ref(in_flight.item)]
        (item,) = setup.queue.take()
        item.deliver(ItemResult())
        await pending.done
        del pending, in_flight, item
        left, in_flight, _ = setup.ask()
        kept += [weakref.ref(in_flight), weakref.ref(in_flight.item)]
        setup.queue.cancel(setup.inputs.leave([in_flight], left))
        del left, in_flight
        assert [reference() for reference in kept] == [None] * 4

    gc.collect()
    gc.disable()
    try:
        run_with_setup(test)
    finally:
        gc.enable()
