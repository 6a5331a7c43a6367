"""Inputs on their way: each computed once, however many requests wait for it. Event loop only.

An input that equals one in flight joins it; a request is done when its last input is. Results come
from the engine thread through a mailbox that wakes the loop once a batch, not once an item.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from osa.service.batching.item import ItemResult, WorkItem

Key = tuple[bytes, bool]


def key_of(ids: Sequence[int], wants_tokens: bool) -> Key:
    """What two inputs must share to share a result."""
    return array("q", ids).tobytes(), wants_tokens


class Pending:
    """One request that waits for the results of its inputs.

    Attributes:
        done: Resolved when every input has a result.
        results: By input; complete once ``done`` is.
        arrivals: Places of inputs, as their results come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """Wait for ``count`` results."""
        self.done: asyncio.Future[None] = loop.create_future()
        self.results: list[ItemResult | None] = [None] * count
        self.arrivals: asyncio.Queue[int] = asyncio.Queue()
        self._left = count

    def settle(self, index: int, result: ItemResult) -> None:
        """Take the result of one input."""
        self.results[index] = result
        self._left -= 1
        self.arrivals.put_nowait(index)
        if not self._left and not self.done.done():
            self.done.set_result(None)


@dataclass(eq=False)
class Flight:
    """One input in queue or engine, and who waits for it."""

    key: Key
    item: WorkItem
    waiters: list[tuple[Pending, int]] = field(default_factory=list)


class Flights:
    """Every input in flight of one model."""

    def __init__(self, landed: Callable[[Key, ItemResult], None]) -> None:
        """Nothing is in flight; ``landed`` is told of every result."""
        self._landed = landed
        self._flights: dict[Key, Flight] = {}
        self._mail: deque[tuple[Flight, ItemResult]] = deque()
        self._woken = False

    def join(self, key: Key, deadline: float, pending: Pending, index: int) -> Flight | None:
        """Wait for an equal input that will be served as soon as this one asks; None if none is."""
        flight = self._flights.get(key)
        if flight is None or (flight.item.waiting and flight.item.urgency > deadline):
            return None
        before = flight.item.deadline
        flight.item.deadline = max(before, deadline)  # in time for a later one too
        if before <= time.monotonic():  # read last: the engine may have dropped it just before
            return None
        flight.waiters.append((pending, index))
        return flight

    def begin(
        self,
        key: Key,
        item: WorkItem,
        pending: Pending,
        index: int,
        loop: asyncio.AbstractEventLoop,
    ) -> Flight:
        """Send an input on its way; the caller queues its item."""
        flight = Flight(key, item, [(pending, index)])
        item.deliver = lambda result: self._post(loop, flight, result)
        self._flights[key] = flight
        return flight

    def leave(self, flights: Sequence[Flight], pending: Pending) -> list[WorkItem]:
        """``pending`` waits no more; returns the items that nobody waits for now."""
        orphans = []
        for flight in dict.fromkeys(flights):
            flight.waiters = [waiter for waiter in flight.waiters if waiter[0] is not pending]
            if flight.waiters:
                continue
            orphans.append(flight.item)
            if self._flights.get(flight.key) is flight:  # else a more urgent one took its place
                del self._flights[flight.key]
        return orphans

    def _post(self, loop: asyncio.AbstractEventLoop, flight: Flight, result: ItemResult) -> None:
        """From the engine thread: put a result in the mailbox, and wake the loop if it sleeps."""
        self._mail.append((flight, result))
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._open_mail)

    def _open_mail(self) -> None:
        self._woken = False  # before the box is read: what comes later wakes the loop again
        while self._mail:
            flight, result = self._mail.popleft()
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            self._landed(flight.key, result)
            for pending, index in flight.waiters:
                pending.settle(index, result)
