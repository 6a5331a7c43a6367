"""The engine thread of one model: takes batches, runs the engine, delivers every item.

A batch that fails is halved until the failing inputs stand alone, so their batch mates succeed, and
one that did not fit in memory makes later batches smaller. A row that is not finite is tried once
more alone, in float32. The supervisor replaces a thread that dies, hangs
or gives up; results that such a thread still brings are dropped: its items have been answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.fair_lock import EngineTurns, Turn
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.out_of_memory import is_out_of_memory, release_memory
from osa.service.engines.base import Engine
from osa.service.errors import BackendError, ClientGoneError, DeadlineError, ServiceError
from osa.service.observability.metrics import Metrics
from osa.service.observability.tracing import Tracing

logger = logging.getLogger(__name__)
FAILURES_UNTIL_BROKEN = 3
"""After so many batches in a row that failed whole, ``PROBE`` tells bad inputs from an engine that
is broken."""
PROBE = (1, 1, 1)
"""What every engine was warmed up with."""


@dataclass(frozen=True)
class Hand:
    """The batch that a thread works on.

    Attributes:
        items: Its items; each is delivered once, by whoever takes the hand.
        tokens: Their tokens.
        since: When it was taken (monotonic clock) [s].
        ticket: Turn on the device.
    """

    items: Sequence[WorkItem]
    tokens: int
    since: float
    ticket: int


class EngineThread:
    """One thread around one engine; used once."""

    def __init__(
        self,
        engine: Engine,
        queue: BatchQueue,
        metrics: Metrics,
        turns: EngineTurns,
        turn: Turn,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepare the thread; ``start`` runs it."""
        self._engine: Engine | None = engine
        self._queue, self._metrics = queue, metrics
        self._turns, self._turn, self._tracing = turns, turn, tracing
        self._lock = threading.Lock()
        self._hand: Hand | None = None
        self._abandoned = False
        self._failures = 0
        self.batches = 0
        self.thread = threading.Thread(target=self._run, name="osa-engine", daemon=True)

    def start(self) -> None:
        """Start taking batches."""
        self.thread.start()

    @property
    def hand(self) -> Hand | None:
        """The batch in hand, None between batches."""
        return self._hand

    def abandon(self, error: ServiceError) -> None:
        """Give the thread up: answer its batch with ``error``, and let it bring nothing more."""
        with self._lock:
            self._abandoned = True
            self._engine = None  # its memory is wanted for the next one
            hand, self._hand = self._hand, None
        if hand is not None:
            self._turns.release(hand.ticket)
            deliver(hand.items, [ItemResult(error=error) for _ in hand.items])

    def _run(self) -> None:
        while not self._abandoned and self._queue.wait():
            ticket = self._turns.acquire(self._turn)
            try:
                self._step(ticket)
            finally:
                self._turns.release(ticket)
            if self._failures >= FAILURES_UNTIL_BROKEN:
                logger.error("engine is broken", extra={"failed_batches": self._failures})
                return

    def _step(self, ticket: int) -> None:
        if self._abandoned:
            return
        started = time.monotonic()
        batch = self._queue.take()
        hand = Hand(batch, sum(item.tokens for item in batch), started, ticket)
        with self._lock:
            given_up = self._abandoned
            self._hand = None if given_up else hand
        if given_up:  # just now: whoever gave the thread up did not see this batch
            late = BackendError("the engine was given up before this batch began")
            deliver(batch, [ItemResult(error=late) for _ in batch])
            return
        try:
            results = self._compute(hand)
        except Exception:  # the boundary: the thread must outlive any batch
            logger.exception("batch failed")
            results = [ItemResult(error=BackendError("internal error")) for _ in batch]
        with self._lock:
            if self._abandoned:
                return  # answered when the thread was given up
            self._hand = None
        self.batches += 1
        deliver(batch, results)

    def _compute(self, hand: Hand) -> list[ItemResult]:
        """A result an item, in order."""
        results: dict[int, ItemResult] = {}
        live = []
        for place, item in enumerate(hand.items):
            if item.cancelled:
                results[place] = ItemResult(error=ClientGoneError("the client went away"))
            elif item.deadline <= hand.since:
                results[place] = ItemResult(error=DeadlineError("the deadline has passed"))
            else:
                live.append(place)
        if live:
            items = [hand.items[place] for place in live]
            tokens = sum(item.tokens for item in items)
            self._metrics.observe_batch(len(items), tokens, self._queue.max_batch_tokens)
            found = self._embed(items)
            elapsed = time.monotonic() - hand.since
            if not self._abandoned:
                self._note(found, tokens, elapsed)
            if self._tracing is not None:
                spans = [item.span for item in items if item.span is not None]
                self._tracing.batch(hand.since, len(items), tokens, spans)
            for place, item, result in zip(live, items, found, strict=True):
                queued_s = hand.since - item.arrived
                results[place] = replace(result, queued_s=queued_s, inference_s=elapsed)
        return [results[place] for place in range(len(hand.items))]

    def _note(self, results: Sequence[ItemResult], tokens: int, elapsed: float) -> None:
        """Learn from a batch: the rate from one without failures, and whether the engine lives."""
        self._metrics.count_computed(tokens, elapsed)
        failed = [isinstance(result.error, BackendError) for result in results]
        if not any(failed):
            self._queue.observe(tokens, elapsed)
        self._failures = self._failures + 1 if all(failed) else 0
        if self._failures >= FAILURES_UNTIL_BROKEN and self._works():
            self._failures = 0

    def _works(self) -> bool:
        """Whether the engine embeds what it could when it was opened."""
        (result,) = self._embed([WorkItem(PROBE)])
        return result.error is None

    def _embed(self, items: Sequence[WorkItem], exact: bool = False) -> list[ItemResult]:
        engine = self._engine
        if engine is None:
            return [ItemResult(error=BackendError("the engine was given up")) for _ in items]
        try:
            wanted = any(item.wants_tokens for item in items)
            output = engine.embed([item.ids for item in items], wanted, exact)
        except Exception as error:  # the boundary: blame is found by halving
            if is_out_of_memory(error):
                tokens = sum(item.tokens for item in items)
                logger.warning("batch did not fit in memory", extra={"tokens": tokens})
                self._queue.learn_limit(tokens)
                release_memory()
            if len(items) == 1:
                kind = type(error).__name__
                logger.warning("engine failed on one input", extra={"kind": kind})
                return [ItemResult(error=BackendError("the engine failed on this input"))]
            middle = len(items) // 2
            return self._embed(items[:middle], exact) + self._embed(items[middle:], exact)
        finite = np.isfinite(output.embeddings).all(axis=1) & np.isfinite(output.norms)
        results = []
        for row, item in enumerate(items):
            if finite[row]:
                vectors = None
                if item.wants_tokens and output.tokens is not None:
                    vectors = output.tokens[row].copy()  # the batch's memory is freed
                results.append(
                    ItemResult(output.embeddings[row], float(output.norms[row]), vectors)
                )
            elif not exact:
                results += self._embed([item], exact=True)
            else:
                self._metrics.count_nonfinite()
                message = "the engine gave a vector that is not finite"
                results.append(ItemResult(error=BackendError(message)))
        return results


def deliver(items: Sequence[WorkItem], results: Sequence[ItemResult]) -> None:
    """Give each item its result."""
    for item, result in zip(items, results, strict=True):
        try:
            item.deliver(result)
        except RuntimeError:  # the event loop has closed: nobody is left to answer
            logger.warning("result had no receiver")
