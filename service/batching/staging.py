"""The next batch of a device, begun while it computes another (decision 58).

A batch that is taken early keeps later arrivals out of it. So it is taken at once where a whole
one waits, and otherwise when the device is about to end: a share of the time that its batch is
expected to take goes by first. No HTTP, no torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.faults.split_failures import inputs_of
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Engine
from osa.service.engines.streaming import Begun, StagingEngine
from osa.service.errors import ClientGoneError, DeadlineError

logger = logging.getLogger(__name__)
WAITED_SHARE = 0.7
"""Of the expected time of the batch that the device computes: it goes by before the next is taken,
unless a whole one waits. The rest is to be longer than staging takes."""
PAUSES = 8
"""In so many parts: a batch may take less time than expected."""


@dataclass(frozen=True)
class BatchInProgress:
    """The batch that a thread computes, or has begun.

    Attributes:
        items: Its items; each is delivered once, by whoever takes the batch from the thread.
        tokens: Their tokens.
        since: When it was taken, or came to be the one that is computed (monotonic clock) [s].
        ticket: Of the device's lock.
    """

    items: Sequence[WorkItem]
    tokens: int
    since: float
    ticket: int


@dataclass(frozen=True)
class StagedBatch:
    """A batch that was taken from the queue.

    Attributes:
        batch: What it is.
        live: Places of the items that are to be computed.
        refused: Results of the others, by place.
        begun: Waits for the engine's result; None where the engine has not begun.
    """

    batch: BatchInProgress
    live: Sequence[int]
    refused: dict[int, ItemResult]
    begun: Begun | None

    @property
    def items(self) -> list[WorkItem]:
        """Those that are to be computed."""
        return [self.batch.items[place] for place in self.live]


def stage(engine: Engine | None, batch: BatchInProgress) -> StagedBatch:
    """Sort out what nobody waits for, and begin the rest where the engine can.

    What an engine raises here it raises again when the batch is computed, where that is handled.
    """
    refused: dict[int, ItemResult] = {}
    live = []
    for place, item in enumerate(batch.items):
        if item.cancelled:
            refused[place] = ItemResult(error=ClientGoneError("the client went away"))
        elif item.deadline <= batch.since:
            refused[place] = ItemResult(error=DeadlineError("the deadline has passed"))
        else:
            live.append(place)
    begun = None
    if live and isinstance(engine, StagingEngine) and engine.stages_ahead:
        rows, details = inputs_of([batch.items[place] for place in live])
        try:
            begun = engine.begin(rows, details)
        except Exception as error:  # engines raise what their libraries raise
            logger.debug("batch could not be begun", extra={"kind": type(error).__name__})
    return StagedBatch(batch, live, refused, begun)


def wait_for_more(queue: BatchQueue, tokens: int, begun: Begun) -> bool:
    """Let work come together while a batch of ``tokens`` is computed; whether there is any.

    Args:
        queue: Where it comes together.
        tokens: Of the batch that is computed.
        begun: That batch: when it is ready, nothing is waited for any more.
    """
    pause_s = WAITED_SHARE * queue.expected_s(tokens) / PAUSES
    for _ in range(PAUSES):
        if queue.tokens >= queue.batch_budget() or begun.is_ready():
            break
        time.sleep(pause_s)
    return len(queue) > 0
