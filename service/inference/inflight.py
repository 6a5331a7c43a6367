"""Request coalescing: each distinct input is computed once, for all requests that wait for it.

A new input that equals one of the same tenant in flight joins it; a request is done when its last
input is. Results come from the engine thread through a mailbox that wakes the event loop once a
batch, not once an item. Event loop only, but for ``InFlightInputs._post``.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from array import array
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Spans

Key = tuple[bytes, bool, Spans | None, str]
DIGEST_BYTES = 32
"""Of the hash of an input's features."""
MOST_IDS = 4096
"""Longer inputs are known by a hash too."""


def input_key(
    ids: Sequence[int] | np.ndarray,
    token_vectors: bool,
    spans: Spans | None,
    tenant: str,
    digest: bytes | None = None,
) -> Key:
    """What two inputs of one model must share to share a result.

    Args:
        ids: Token ids; or an array of them or features [n, F], whose bytes are hashed, for they are
            many.
        token_vectors: Whether the vector of every token is requested.
        spans: A tuple of pairs.
        tenant: Identity of the tenant; results are shared with nobody else, for the time of an
            answer and its headers would tell one what another has sent.
        digest: Of an array, as of ``digest_of``, where it is known.
    """
    if isinstance(ids, np.ndarray):
        return digest or digest_of(ids), token_vectors, spans, tenant
    whole = array("q", ids).tobytes()
    if len(ids) > MOST_IDS:  # no other key has such a length
        whole = b"+" + hashlib.blake2b(whole, digest_size=DIGEST_BYTES).digest()
    return whole, token_vectors, spans, tenant


def digest_of(rows: np.ndarray) -> bytes:
    """Hash of an array; that of a document takes milliseconds."""
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=DIGEST_BYTES).digest()


def digests_of(
    inputs: Sequence[Sequence[int] | np.ndarray], is_document: Callable[[int], bool]
) -> dict[int, bytes]:
    """Digests of the documents among inputs, by their places: too long for the event loop."""
    return {
        place: digest_of(row)
        for place, row in enumerate(inputs)
        if isinstance(row, np.ndarray) and is_document(len(row))
    }


class PendingRequest:
    """One request that waits for the results of its inputs.

    Attributes:
        done: Resolved when every input has a result.
        results: By input; complete once ``done`` is.
        arrivals: Indices of inputs in the order in which their results came.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """Wait for ``count`` results."""
        self.done: asyncio.Future[None] = loop.create_future()
        self.results: list[ItemResult | None] = [None] * count
        self.arrivals: asyncio.Queue[int] = asyncio.Queue()
        self._left = count

    def settle(self, index: int, result: ItemResult) -> None:
        """Store the result of one input."""
        self.results[index] = result
        self._left -= 1
        self.arrivals.put_nowait(index)
        if not self._left and not self.done.done():
            self.done.set_result(None)


Waiters = list[tuple[PendingRequest, int]]
"""Requests that wait for an input, each with its place there."""


@dataclass(eq=False)
class InFlightInput:
    """One input in queue or engine, and the requests that wait for it.

    The item knows the list of those that wait, and not this: no result waits for the collector.
    """

    key: Key
    item: WorkItem
    waiters: Waiters = field(default_factory=list)


class InFlightInputs:
    """Every input of one model that is in flight."""

    def __init__(self, on_result: Callable[[Key, ItemResult], None]) -> None:
        """Start empty; ``on_result`` is called with every result."""
        self._on_result = on_result
        self._inputs: dict[Key, InFlightInput] = {}
        self._mailbox: deque[tuple[Key, Waiters, ItemResult]] = deque()
        self._woken = False

    def join(
        self, key: Key, deadline: float, pending: PendingRequest, index: int
    ) -> InFlightInput | None:
        """Join an identical input in flight, if it runs no later than ``deadline``.

        Args:
            key: Of the input.
            deadline: Of the request that joins (monotonic clock) [s].
            pending: The request.
            index: Place of the input in the request.
        """
        found = self._inputs.get(key)
        if found is None or (found.item.waiting and found.item.urgency > deadline):
            return None
        before = found.item.deadline
        found.item.deadline = max(before, deadline)  # for whoever waits longest
        if before <= time.monotonic():  # read last: the engine may have dropped it just before
            return None
        found.waiters.append((pending, index))
        return found

    def begin(
        self,
        key: Key,
        item: WorkItem,
        pending: PendingRequest,
        index: int,
        loop: asyncio.AbstractEventLoop,
    ) -> InFlightInput:
        """Register an input that the caller queues.

        Args:
            key: Of the input.
            item: Its work item, whose ``deliver`` is set here.
            pending: The request.
            index: Place of the input in the request.
            loop: The event loop that results are brought to.
        """
        begun = InFlightInput(key, item, [(pending, index)])
        item.deliver = functools.partial(self._post, loop, key, begun.waiters)
        self._inputs[key] = begun
        return begun

    def leave(
        self,
        inputs: Sequence[InFlightInput],
        pending: PendingRequest,
        places: Collection[int] | None = None,
    ) -> list[WorkItem]:
        """Remove a request from its inputs; returns the items that nobody waits for any more.

        Args:
            inputs: What it waits for.
            pending: The request.
            places: Of the inputs in the request; None for all.
        """
        orphans = []
        for one in dict.fromkeys(inputs):
            one.waiters[:] = [
                (waiting, place)
                for waiting, place in one.waiters
                if waiting is not pending or (places is not None and place not in places)
            ]
            if one.waiters:
                continue
            orphans.append(one.item)
            if self._inputs.get(one.key) is one:  # else a more urgent one took its place
                del self._inputs[one.key]
        return orphans

    def _post(
        self, loop: asyncio.AbstractEventLoop, key: Key, waiters: Waiters, result: ItemResult
    ) -> None:
        """From the engine thread: add a result to the mailbox, and wake the loop if it sleeps."""
        self._mailbox.append((key, waiters, result))
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._read_mailbox)

    def _read_mailbox(self) -> None:
        self._woken = False  # before it is read: what comes later wakes the loop again
        while self._mailbox:
            key, waiters, result = self._mailbox.popleft()
            known = self._inputs.get(key)
            if known is not None and known.waiters is waiters:
                del self._inputs[key]
            self._on_result(key, result)
            for pending, index in waiters:
                pending.settle(index, result)
