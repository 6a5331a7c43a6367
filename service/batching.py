"""The bounded queue and the pure plan of the next batch. No HTTP, no torch.

Work is counted in tokens. ``put`` takes a request's items all together or not at all. Planning is
earliest deadline first, then first come first served; the first item is always part of the batch,
so nothing starves, and later items that fit fill the rest of the token budget.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from osa.service.errors import OverloadedError


@dataclass(frozen=True)
class ItemResult:
    """What became of one input: a vector with its raw length, or an error.

    Attributes:
        embedding: Unit vector [E].
        norm: Length of the vector before normalising.
        error: Why there is no vector.
        queued_s: Time spent waiting for a batch [s].
        inference_s: Time of the batch that computed it [s].
    """

    embedding: np.ndarray | None = None
    norm: float = 0.0
    error: Exception | None = None
    queued_s: float = 0.0
    inference_s: float = 0.0


@dataclass(eq=False)
class WorkItem:
    """One input on its way through queue and engine.

    Attributes:
        ids: Token ids.
        deliver: Called once, from the engine thread, with the result.
        deadline: When the answer is worth nothing any more (monotonic clock) [s].
        arrived: When it was queued (monotonic clock) [s].
        cancelled: Set when nobody waits for the result any more.
    """

    ids: Sequence[int]
    deliver: Callable[[ItemResult], None]
    deadline: float = math.inf
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def tokens(self) -> int:
        """Cost of the item [tokens]."""
        return len(self.ids)


def plan_batch(
    lengths: Sequence[int], deadlines: Sequence[float], max_tokens: int, max_items: int
) -> list[int]:
    """Choose the next batch; pure.

    Args:
        lengths: Tokens of each waiting item, in order of arrival.
        deadlines: When each must be answered; ``inf`` for never.
        max_tokens: Token budget; an item beyond it is planned alone.
        max_items: Most items in a batch.

    Returns:
        Places of the chosen items, first to be served first; empty only where nothing waits.
    """
    order = sorted(range(len(lengths)), key=lambda place: (deadlines[place], place))
    chosen: list[int] = []
    tokens = 0
    for place in order:
        if len(chosen) == max_items:
            break
        if not chosen or tokens + lengths[place] <= max_tokens:
            chosen.append(place)
            tokens += lengths[place]
    return chosen


class BatchQueue:
    """Waiting items, bounded in tokens; any thread may put, one engine thread takes."""

    def __init__(self, max_tokens: int, max_batch_tokens: int, max_batch_items: int) -> None:
        """Create an empty queue with these bounds [tokens], [tokens], [items]."""
        self.max_tokens = max_tokens
        self.max_batch_tokens, self.max_batch_items = max_batch_tokens, max_batch_items
        self._items: list[WorkItem] = []
        self._tokens = 0
        self._closed = False
        self._changed = threading.Condition()
        self.rate: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._tokens

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def backlog_s(self) -> float:
        """Time that the waiting tokens will take at the measured rate [s]; 0 before the first."""
        return self._tokens / self.rate if self.rate else 0.0

    def put(self, items: Sequence[WorkItem]) -> None:
        """Queue all items, or none.

        Raises:
            OverloadedError: Their tokens do not fit; says when to come back.
        """
        tokens = sum(item.tokens for item in items)
        with self._changed:
            if self._tokens + tokens > self.max_tokens:
                raise OverloadedError(
                    f"the queue holds {self._tokens} of {self.max_tokens} tokens, "
                    f"no room for {tokens} more",
                    max(1, math.ceil(self.backlog_s())),
                )
            self._items.extend(items)
            self._tokens += tokens
            self._changed.notify()

    def cancel(self, items: Sequence[WorkItem]) -> int:
        """Drop items that still wait; returns the tokens saved."""
        unwanted = set(map(id, items))
        with self._changed:
            for item in items:
                item.cancelled = True
            kept = [item for item in self._items if id(item) not in unwanted]
            saved = self._tokens - sum(item.tokens for item in kept)
            self._items, self._tokens = kept, self._tokens - saved
            return saved

    def take(self, timeout_s: float | None = None) -> list[WorkItem] | None:
        """Wait for work and take the next batch; None when closed and empty, [] on timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                return None if self._closed else []
            chosen = plan_batch(
                [item.tokens for item in self._items],
                [item.deadline for item in self._items],
                self.max_batch_tokens,
                self.max_batch_items,
            )
            batch = [self._items[place] for place in chosen]
            taken = set(chosen)
            self._items = [item for place, item in enumerate(self._items) if place not in taken]
            self._tokens -= sum(item.tokens for item in batch)
            return batch

    def close(self) -> None:
        """Let ``take`` return None once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
