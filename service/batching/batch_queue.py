"""The bounded queue of waiting inputs, by urgency. No HTTP.

Work is counted in tokens. ``put`` takes a request's items all together or not at all. The most
urgent item is always part of the next batch: urgent means near its deadline, or near
``AGE_BOUND_S`` of waiting, so that nothing starves behind items with deadlines. Later items that
fit fill the rest of the token budget.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Iterator, Sequence

from osa.service.batching.item import WorkItem
from osa.service.batching.out_of_memory import MemoryLimit
from osa.service.batching.planner import plan_batch
from osa.service.errors import OverloadedError, UnavailableError

RATE_DECAY = 0.8
"""Decay per batch of the throughput estimate."""
SAFETY = 1.2
"""Factor on the estimated wait of a request with a deadline."""
LEAST_BUDGET = 1024
"""Smallest token budget of a batch, however slow the engine [tokens]."""


class BatchQueue:
    """Waiting items, bounded in tokens; any thread may put, one engine thread takes."""

    def __init__(
        self,
        max_tokens: int,
        max_batch_tokens: int,
        max_batch_items: int,
        target_batch_s: float = math.inf,
    ) -> None:
        """Create an empty queue.

        Args:
            max_tokens: Capacity [tokens].
            max_batch_tokens: Largest batch [tokens]; a longer item is a batch of its own.
            max_batch_items: Most items of a batch.
            target_batch_s: Longest time that a batch should take at the measured rate [s].
        """
        self.max_tokens = max_tokens
        self.max_batch_tokens, self.max_batch_items = max_batch_tokens, max_batch_items
        self.memory_limit = MemoryLimit(max_batch_tokens)
        self.target_batch_s = target_batch_s
        self._in_progress = 0  # tokens of the batch that was taken last, until it is observed
        self._heap: list[tuple[float, int, WorkItem]] = []
        self._order = itertools.count()
        self._tokens = self._count = 0
        self._done_tokens = self._done_s = 0.0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._tokens

    def __len__(self) -> int:
        """Items that wait."""
        return self._count

    def observe(self, tokens: int, seconds: float) -> None:
        """Record that a batch of ``tokens`` took ``seconds`` [s]."""
        self._done_tokens = RATE_DECAY * self._done_tokens + tokens
        self._done_s = RATE_DECAY * self._done_s + seconds
        self._in_progress = 0
        self.memory_limit.fitted()

    def expected_s(self, tokens: int) -> float:
        """Time that ``tokens`` take at the measured rate [s]; 0 before the first batch."""
        return tokens * self._done_s / self._done_tokens if self._done_tokens else 0.0

    def tokens_per_second(self) -> float:
        """The measured rate [tokens/s]; 0 before the first batch."""
        return self._done_tokens / self._done_s if self._done_s else 0.0

    def batch_budget(self) -> int:
        """Budget of the next batch: what fits in memory and in ``target_batch_s`` [tokens]."""
        if not self._done_tokens or self.target_batch_s == math.inf:
            return self.memory_limit.tokens
        timely = int(self.tokens_per_second() * self.target_batch_s)
        return min(self.memory_limit.tokens, max(LEAST_BUDGET, timely))

    def backlog_s(self) -> float:
        """Time that the queue takes at the measured rate [s]; 0 before the first batch."""
        return self.expected_s(self._tokens)

    def put(self, items: Sequence[WorkItem]) -> None:
        """Queue all items, or none. An empty queue takes a request of any size.

        Raises:
            OverloadedError: Their tokens do not fit, or they would come after their deadline;
                says when to come back.
            UnavailableError: The queue is closed.
        """
        tokens = sum(item.tokens for item in items)
        with self._changed:
            if self._closed:
                raise UnavailableError("the server is draining")
            if self._tokens and self._tokens + tokens > self.max_tokens:
                raise OverloadedError(
                    f"the queue holds {self._tokens} of {self.max_tokens} tokens, "
                    f"no room for {tokens} more",
                    max(1, math.ceil(self.backlog_s())),
                )
            self._check_deadline(items, tokens)
            for item in items:
                item.waiting = True
                heapq.heappush(self._heap, (item.urgency, next(self._order), item))
            self._count += len(items)
            self._tokens += tokens
            self._changed.notify()

    def _check_deadline(self, items: Sequence[WorkItem], tokens: int) -> None:
        """Refuse items that cannot meet their deadline behind more urgent ones.

        Raises:
            OverloadedError: Says when there will be time enough.
        """
        deadline = max((item.deadline for item in items), default=math.inf)
        left_s = deadline - time.monotonic()
        if deadline == math.inf or SAFETY * self.expected_s(self._tokens + tokens) <= left_s:
            return
        urgency = max(item.urgency for item in items)
        ahead = self._in_progress + sum(
            entry[2].tokens for entry in self._heap if entry[2].waiting and entry[0] <= urgency
        )
        needed_s = SAFETY * self.expected_s(ahead + tokens)
        if ahead and needed_s > left_s:
            raise OverloadedError(
                f"{ahead} tokens are served before, which takes longer than the deadline leaves",
                max(1, math.ceil(needed_s - left_s)),
            )

    def cancel(self, items: Sequence[WorkItem]) -> int:
        """Drop items that still wait; returns the tokens saved."""
        saved = 0
        with self._changed:
            for item in items:
                item.cancelled = True
                if item.waiting:
                    item.waiting = False
                    self._count -= 1
                    saved += item.tokens
            self._tokens -= saved
            if len(self._heap) > 2 * self._count + 1024:  # mostly dropped items: sweep them out
                self._heap = [entry for entry in self._heap if entry[2].waiting]
                heapq.heapify(self._heap)
        return saved

    def wait(self) -> bool:
        """Wait for work; False when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._closed)
            return bool(self._count)

    def take(self) -> list[WorkItem]:
        """Take the next batch; empty where nothing waits."""
        with self._changed:
            popped: list[tuple[float, int, WorkItem]] = []

            def lengths() -> Iterator[int]:
                while self._heap:
                    entry = heapq.heappop(self._heap)
                    if entry[2].waiting:
                        popped.append(entry)
                        yield entry[2].tokens

            chosen = plan_batch(lengths(), self.batch_budget(), self.max_batch_items)
            batch = [popped[place][2] for place in chosen]
            for place in set(range(len(popped))) - set(chosen):
                heapq.heappush(self._heap, popped[place])
            for item in batch:
                item.waiting = False
            self._count -= len(batch)
            self._in_progress = sum(item.tokens for item in batch)
            self._tokens -= self._in_progress
            return batch

    def drain(self) -> list[WorkItem]:
        """Remove and return every waiting item."""
        with self._changed:
            items = [entry[2] for entry in self._heap if entry[2].waiting]
            for item in items:
                item.waiting = False
            self._heap.clear()
            self._count = self._tokens = 0
            return items

    @property
    def finished(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._count

    def close(self) -> None:
        """Refuse further work; ``wait`` returns False once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
