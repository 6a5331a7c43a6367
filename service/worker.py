"""The engine thread: takes batches, runs the engine, delivers every item.

A batch that fails is halved until the failing inputs stand alone, so their batch mates succeed; a
row that is not finite is tried once more alone. Whatever a batch does, the thread goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from osa.service.batching import BatchQueue, ItemResult, WorkItem
from osa.service.engines.base import Engine
from osa.service.errors import BackendError, ClientGoneError, DeadlineError
from osa.service.metrics import Metrics

logger = logging.getLogger(__name__)


class EngineWorker:
    """Owns the engine thread."""

    def __init__(self, engine: Engine, queue: BatchQueue, metrics: Metrics) -> None:
        """Prepare the thread; ``start`` runs it."""
        self._engine, self._queue, self._metrics = engine, queue, metrics
        self._thread = threading.Thread(target=self._run, name="osa-engine", daemon=True)
        self._busy_since: float | None = None

    def start(self) -> None:
        """Start taking batches."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish what is queued, at most ``timeout_s``; returns whether the thread ended."""
        self._queue.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the engine thread runs."""
        return self._thread.is_alive()

    def busy_s(self) -> float:
        """How long the batch in hand has been running [s]; 0 between batches."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while (batch := self._queue.take()) is not None:
            try:
                self._process(batch)
            except Exception:  # the boundary: the thread must outlive any batch
                logger.exception("batch failed")
                for item in batch:
                    self._deliver(item, ItemResult(error=BackendError("internal error")))
            finally:
                self._busy_since = None

    def _process(self, batch: Sequence[WorkItem]) -> None:
        started = time.monotonic()
        self._busy_since = started
        live = []
        for item in batch:
            if item.cancelled:
                self._deliver(item, ItemResult(error=ClientGoneError("the client went away")))
            elif item.deadline <= started:
                self._deliver(item, ItemResult(error=DeadlineError("the deadline has passed")))
            else:
                live.append(item)
        if not live:
            return
        tokens = sum(item.tokens for item in live)
        self._metrics.observe_batch(len(live), tokens)
        results = self._embed(live)
        elapsed = time.monotonic() - started
        if all(result.error is None for result in results):
            self._queue.observe(tokens, elapsed)
        for item, result in zip(live, results, strict=True):
            queued = started - item.arrived
            self._deliver(item, replace(result, queued_s=queued, inference_s=elapsed))

    def _embed(self, items: Sequence[WorkItem]) -> list[ItemResult]:
        try:
            wanted = any(item.wants_tokens for item in items)
            output = self._engine.embed([item.ids for item in items], wanted)
        except Exception as error:  # the boundary: blame is found by halving
            if len(items) == 1:
                logger.warning("engine failed on one input", extra={"kind": type(error).__name__})
                return [ItemResult(error=BackendError("the engine failed on this input"))]
            middle = len(items) // 2
            return self._embed(items[:middle]) + self._embed(items[middle:])
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
            elif len(items) > 1:
                results += self._embed([item])
            else:
                self._metrics.count_nonfinite()
                message = "the engine gave a vector that is not finite"
                results.append(ItemResult(error=BackendError(message)))
        return results

    @staticmethod
    def _deliver(item: WorkItem, result: ItemResult) -> None:
        try:
            item.deliver(result)
        except RuntimeError:  # the event loop has closed: nobody is left to answer
            logger.warning("result had no receiver")
