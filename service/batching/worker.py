"""The engine thread of one model: takes batches, runs the engine, delivers every item.

Where the engine runs on a device, the next batch is begun while that computes (``staging``). The
supervisor replaces a thread that dies, hangs or gives up; results that such a thread still brings
are dropped: its items have been answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.fair_lock import FairLock, Flow
from osa.service.batching.faults.split_failures import NonFiniteError, embed_each
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.running_time import RUNNING, ThreadWork
from osa.service.batching.staging import BatchInProgress, StagedBatch, stage, wait_for_more
from osa.service.engines.base import Engine, trial_batch
from osa.service.engines.streaming import Begun
from osa.service.errors import BackendError, DeviceFaultError, ServiceError
from osa.service.observability.metrics import (
    BATCH_FILL,
    BATCH_SIZE,
    BATCH_TOKENS,
    BUSY_SECONDS,
    COMPUTED_TOKENS,
    NONFINITE_ROWS,
    Metrics,
)
from osa.service.observability.tracing import Tracing

logger = logging.getLogger(__name__)
FAILURES_UNTIL_BROKEN = 3
"""After this many batches in a row in which every input failed, a probe is run to tell bad inputs
from a broken engine."""
PROBE_LENGTH = 3
"""Length of the probe, a sequence that every engine was warmed up with [tokens]."""


class EngineThread:
    """One thread around one engine; used once.

    Attributes:
        fault: What broke the device, once that has happened: the thread ends, and no other one can
            compute in this process.
    """

    def __init__(
        self,
        engine: Engine,
        queue: BatchQueue,
        metrics: Metrics,
        lock: FairLock,
        flow: Flow,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepare the thread; ``start`` runs it.

        Args:
            engine: Warmed up.
            queue: Where batches come from.
            metrics: Of the model.
            lock: The device.
            flow: The model's account with the lock.
            tracing: Records every batch.
        """
        self._engine: Engine | None = engine
        self._probe = trial_batch(engine.info, (PROBE_LENGTH,))[0]
        self._queue, self._metrics = queue, metrics
        self._device, self._flow, self._tracing = lock, flow, tracing
        self._lock = threading.Lock()
        self._batch: BatchInProgress | None = None
        self._behind: BatchInProgress | None = None  # begun behind that batch
        self._next: StagedBatch | None = None
        self._abandoned = False
        self._failures = 0
        self.fault: DeviceFaultError | None = None
        self.batches = 0
        self.work: ThreadWork | None = None
        self.thread = threading.Thread(target=self._run, name="osa-engine", daemon=True)

    def start(self) -> None:
        """Start taking batches."""
        self.thread.start()

    @property
    def batch(self) -> BatchInProgress | None:
        """The batch in progress, None between batches."""
        return self._batch

    def abandon(self, error: ServiceError) -> None:
        """Give the thread up: answer its batch with ``error`` and drop whatever it still brings."""
        with self._lock:
            self._abandoned = True
            self._engine = None  # frees its memory for the next one
            held = [batch for batch in (self._batch, self._behind) if batch is not None]
            self._batch = self._behind = self._next = None
        for batch in held:
            self._device.release(batch.ticket)
            self._refuse(batch, error)
        if self._queue.documents is not None:
            self._queue.documents.abandon(error)

    def _run(self) -> None:
        self.work = ThreadWork()
        while not self._abandoned and (self._next is not None or self._queue.wait()):
            ticket = self._device.acquire(self._flow)
            try:
                if self._next is not None or len(self._queue):
                    self._step(ticket)
                self._turn(ticket)
            finally:
                self._device.release(ticket)
            if self.fault is not None:
                self._drop_next(self.fault)
                return
            if self._failures >= FAILURES_UNTIL_BROKEN:
                logger.error("engine is broken", extra={"failed_batches": self._failures})
                return

    def _step(self, ticket: int) -> None:
        """Compute a batch; a device is given the next one meanwhile."""
        staged, self._next = self._next or self._take(ticket, None), None
        if staged is None:
            return
        with self._lock:
            if self._batch is None:
                return  # answered when the thread was given up
            batch = self._batch = replace(self._batch, ticket=ticket)
        begun = staged.begun
        if begun is not None and wait_for_more(self._queue, batch.tokens, begun):
            self._next = self._take(ticket, batch) if self._may_stage() else None
        try:
            results = self._compute(batch, staged)
        except Exception:  # the thread must outlive any batch
            logger.exception("batch failed")
            results = [ItemResult(error=BackendError("internal error")) for _ in batch.items]
        with self._lock:
            if self._abandoned:
                return  # answered when the thread was given up
            behind, self._behind = self._behind, None
            self._batch = None if behind is None else replace(behind, since=time.monotonic())
        self._queue.end(batch.items)
        self.batches += 1
        deliver(batch.items, results)

    def _may_stage(self) -> bool:
        """Whether to begin another batch: not where others wait for the device."""
        lane = self._queue.documents
        return not (self._device.contended or (lane is not None and lane.pending))

    def _take(self, ticket: int, current: BatchInProgress | None) -> StagedBatch | None:
        """The next batch, begun behind ``current`` if the engine can; None once given up."""
        if self._abandoned:
            return None
        started = time.monotonic()
        items = self._queue.take()
        batch = BatchInProgress(items, sum(item.tokens for item in items), started, ticket)
        with self._lock:
            given_up = self._abandoned
            if not given_up:
                self._batch, self._behind = (batch, None) if current is None else (current, batch)
        if given_up:  # just now: whoever gave the thread up did not see this batch
            self._refuse(batch, BackendError("the engine was given up before this batch began"))
            return None
        return stage(self._engine, batch)

    def _refuse(self, batch: BatchInProgress, error: ServiceError) -> None:
        self._queue.end(batch.items)
        deliver(batch.items, [ItemResult(error=error.again()) for _ in batch.items])

    def _drop_next(self, error: ServiceError) -> None:
        """Answer the batch that was begun behind one that broke the device."""
        with self._lock:
            batch, self._batch = self._batch, None
        self._next = None
        if batch is not None:
            self._refuse(batch, error)

    def _turn(self, ticket: int) -> None:
        """Some chunks of a document, if there is one."""
        lane, engine = self._queue.documents, self._engine
        if lane is None or not lane.ready or engine is None:
            return
        turn = BatchInProgress((), self._queue.max_batch_tokens, time.monotonic(), ticket)
        with self._lock:
            if self._abandoned:
                return
            self._batch, self._behind = turn, self._batch
        try:
            done = lane.turn(engine, lambda: bool(len(self._queue)))
        except Exception:  # the thread must outlive any document
            logger.exception("document failed")
            lane.abandon(BackendError("internal error"))
            done = 0
        with self._lock:
            if self._abandoned:
                return
            self._batch, self._behind = self._behind, None
        self._metrics.add(BUSY_SECONDS, time.monotonic() - turn.since)
        if done:
            self._metrics.add(COMPUTED_TOKENS, done)

    def _compute(self, batch: BatchInProgress, staged: StagedBatch) -> list[ItemResult]:
        """One result for each item, in order."""
        results, items = dict(staged.refused), staged.items
        if items:
            tokens = sum(item.tokens for item in items)
            self._metrics.observe(BATCH_SIZE, len(items))
            self._metrics.observe(BATCH_TOKENS, tokens)
            self._metrics.observe(BATCH_FILL, tokens / self._queue.max_batch_tokens)
            began = RUNNING.now()
            found = self._embed(items, staged.begun)
            elapsed = time.monotonic() - batch.since
            if not self._abandoned:  # a process that was stopped meanwhile is not a slow engine
                self._learn(found, tokens, min(elapsed, RUNNING.now() - began))
            if self._tracing is not None:
                spans = [item.trace_span for item in items if item.trace_span is not None]
                self._tracing.batch(batch.since, len(items), tokens, spans)
            for place, item, result in zip(staged.live, items, found, strict=True):
                queued_s = batch.since - item.arrived
                results[place] = result._replace(queued_s=queued_s, inference_s=elapsed)
        return [results[place] for place in range(len(batch.items))]

    def _learn(self, results: Sequence[ItemResult], tokens: int, elapsed: float) -> None:
        """Update the throughput estimate, the counters and the count of failures in a row."""
        self._metrics.add(COMPUTED_TOKENS, tokens)
        self._metrics.add(BUSY_SECONDS, elapsed)
        for result in results:
            if isinstance(result.error, NonFiniteError):
                self._metrics.add(NONFINITE_ROWS)
        failed = [isinstance(result.error, BackendError) for result in results]
        if not any(failed):
            self._queue.observe(tokens, elapsed)
        self._failures = self._failures + 1 if all(failed) else 0
        if self.fault is None and self._failures >= FAILURES_UNTIL_BROKEN and self._works():
            self._failures = 0

    def _works(self) -> bool:
        """Whether the engine still computes the probe."""
        (result,) = self._embed([WorkItem(self._probe)])
        return result.error is None

    def _embed(self, items: Sequence[WorkItem], begun: Begun | None = None) -> list[ItemResult]:
        exceeded = self._queue.memory_limit.exceeded
        found = embed_each(self._engine_or_give_up, items, exceeded, begun=begun)
        for result in found:
            if isinstance(result.error, DeviceFaultError):
                self.fault = result.error
        return found

    def _engine_or_give_up(self) -> Engine:
        engine = self._engine
        if engine is None:
            raise BackendError("the engine was given up")
        return engine


def deliver(items: Sequence[WorkItem], results: Sequence[ItemResult]) -> None:
    """Give each item its result."""
    for item, result in zip(items, results, strict=True):
        try:
            item.deliver(result)
        except RuntimeError:  # the event loop has closed: nobody waits for an answer
            logger.warning("result had no receiver")
