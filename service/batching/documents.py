"""Long inputs of one model: computed chunk by chunk, in turns between the batches of others.

An input longer than a batch may be is a document. Each tenant has one in work at a time, and they
take turns; a turn ends after ``turn_s``, or at the next step where shorter inputs wait. Between two
steps a document that nobody waits for any more, or whose deadline has passed, gives its memory
and disk back. Documents do not count in the queue of the others, but have a bound of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.auth.tenants import Tenant
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Engine
from osa.service.engines.streaming import StreamingEngine
from osa.service.errors import (
    BackendError,
    DeadlineError,
    OverloadedError,
    ServiceError,
    TooManyTokensError,
)

logger = logging.getLogger(__name__)
LEAST, MOST = 256, 8192
"""Tokens of one step."""
LEARNT = 0.3
"""Weight of the latest step in the measured rate."""


@dataclass(frozen=True)
class DocumentLimits:
    """Bounds of long inputs.

    Attributes:
        longest: Longest input that is no document [tokens].
        max_tokens: Tokens of all documents that wait or are in work.
        turn_s: Time of a turn [s].
        directory: Where states are kept meanwhile; None for the system's temporary directory.
        keep_states: As of ``StreamOptions``.
    """

    longest: int
    max_tokens: int
    turn_s: float = 0.005
    directory: Path | None = None
    keep_states: bool = True


@dataclass(eq=False)
class _Run:
    """A document in work."""

    identity: str
    item: WorkItem
    steps: Generator[Progress, None, Document]
    began: float = field(default_factory=time.monotonic)
    spans: dict[int, np.ndarray] = field(default_factory=dict)

    def step(self) -> ItemResult | None:
        """Compute a chunk of a layer; the result after the last one."""
        try:
            step = next(self.steps)
        except StopIteration as end:
            document: Document = end.value
            return self._result(document)
        self.item.progress = min(1.0, step.done / (step.passes * self.item.tokens))
        for place, vector in step.spans:
            self.spans[place] = vector.numpy()
        return None

    def _result(self, document: Document) -> ItemResult:
        vector, norm = document.output.embeddings[0].cpu().numpy(), float(document.output.norms[0])
        if not np.isfinite(vector).all() or not np.isfinite(norm):
            return ItemResult(error=BackendError("the engine gave a vector that is not finite"))
        spans = self.item.spans
        found = None
        if spans is not None:
            rows = [self.spans[place] for place in range(len(spans))]
            found = np.stack(rows) if rows else np.zeros((0, len(vector)), np.float32)
        queued_s, took_s = self.began - self.item.arrived, time.monotonic() - self.began
        return ItemResult(vector, norm, span_vectors=found, queued_s=queued_s, inference_s=took_s)


class DocumentLane:
    """Documents that wait, and those in work. Any thread puts; the engine thread takes turns."""

    def __init__(self, limits: DocumentLimits, changed: threading.Condition) -> None:
        """Start empty; ``changed`` guards what waits."""
        self.limits, self._changed = limits, changed
        self._waiting: dict[str, deque[WorkItem]] = {}
        self._runs: dict[str, _Run] = {}
        self._order: deque[str] = deque()
        self._rate = 0.0
        self.tokens = 0
        """Of all that wait or are in work."""

    @property
    def pending(self) -> bool:
        """Whether there is a turn to take."""
        return bool(self._order)

    def check(self, items: Sequence[WorkItem]) -> None:
        """Refuse documents for which there is no room; within the lock.

        Raises:
            OverloadedError: Now.
            TooManyTokensError: Ever.
        """
        tokens, most = sum(item.tokens for item in items), self.limits.max_tokens
        if tokens > most:
            raise TooManyTokensError(
                f"the request's long inputs have {tokens} tokens, at most {most} are taken at once "
                "(documents.max_tokens): send less at once"
            )
        if self.tokens + tokens > most:
            left_s = self.tokens * 4 / self._rate if self._rate else 1.0
            raise OverloadedError(
                f"long inputs of {self.tokens} of {most} tokens wait, no room for {tokens} more "
                "(documents.max_tokens)",
                max(1, round(left_s)),
            )

    def add(self, items: Sequence[WorkItem], tenant: Tenant) -> None:
        """Queue documents that were checked; within the lock."""
        for item in items:
            item.progress = 0.0
            item.waiting = True
            self.tokens += item.tokens
            self._waiting.setdefault(tenant.identity, deque()).append(item)
            if tenant.identity not in self._order:
                self._order.append(tenant.identity)

    def cancel(self, item: WorkItem) -> int:
        """Drop a document that still waits, within the lock; returns the tokens saved."""
        for identity, waiting in list(self._waiting.items()):
            if item in waiting:
                waiting.remove(item)
                item.waiting = False
                self.tokens -= item.tokens
                self._forget(identity)
                return item.tokens
        return 0

    def turn(self, engine: Engine, others_wait: Callable[[], bool]) -> int:
        """Compute some chunks of one document; returns the tokens of one that is done.

        Args:
            engine: Of the model.
            others_wait: Whether shorter inputs wait.
        """
        run = self._next(engine)
        if run is None:
            return 0
        identity, end = run.identity, time.monotonic() + self.limits.turn_s
        result: ItemResult | None = None
        while result is None:
            if run.item.cancelled:
                self._end(identity, run)
                return 0
            if run.item.deadline <= time.monotonic():
                result = ItemResult(error=DeadlineError("the deadline has passed"))
                break
            try:
                result = run.step()
            except Exception as error:  # engines raise what their libraries raise
                logger.warning("document failed", extra={"kind": type(error).__name__})
                result = ItemResult(error=BackendError(f"the engine failed on this input: {error}"))
            if result is None and (time.monotonic() >= end or others_wait()):
                with self._changed:
                    self._order.rotate(-1)
                return 0
        self._end(identity, run)
        run.item.deliver(result)
        return run.item.tokens if result.error is None else 0

    def abandon(self, error: ServiceError) -> None:
        """Answer the documents in work with an error; those that wait stay."""
        for identity, run in list(self._runs.items()):
            run.item.cancelled = True  # for a thread that still comes back
            self._end(identity, run)
            run.item.deliver(ItemResult(error=error))

    def drain(self) -> list[WorkItem]:
        """Remove and return all that wait; within the lock."""
        items = [item for waiting in self._waiting.values() for item in waiting]
        for item in items:
            item.waiting = False
            self.tokens -= item.tokens
        self._waiting.clear()
        for identity in list(self._order):
            self._forget(identity)
        return items

    def _next(self, engine: Engine) -> _Run | None:
        """The document whose turn it is, begun where it is new."""
        with self._changed:
            if not self._order:
                return None
            identity = self._order[0]
            run = self._runs.get(identity)
            if run is None:
                item = self._waiting[identity].popleft()
                item.waiting = False
                run = _Run(identity, item, self._steps(engine, item))
                self._runs[identity] = run
            return run

    def _chunk(self) -> int:
        return min(MOST, max(LEAST, int(self._rate * self.limits.turn_s)))

    def _steps(self, engine: Engine, item: WorkItem) -> Generator[Progress, None, Document]:
        """The steps of a document, whose rate is measured."""
        assert isinstance(engine, StreamingEngine)  # others have no documents
        limits = self.limits
        options = StreamOptions(
            chunk=self._chunk, directory=limits.directory, keep_states=limits.keep_states
        )
        steps = engine.stream(item.ids, item.spans or (), options)
        try:
            while True:
                began = time.monotonic()
                try:
                    step = next(steps)
                except StopIteration as end:
                    document: Document = end.value
                    return document
                rate = step.tokens / max(1e-6, time.monotonic() - began)
                self._rate += LEARNT * (rate - self._rate) if self._rate else rate
                yield step
        finally:
            steps.close()

    def _end(self, identity: str, run: _Run) -> None:
        """Give up what a document holds."""
        try:
            run.steps.close()
        except ValueError:  # a thread that hangs is in it: it ends with that
            logger.warning("a document's step hangs")
        with self._changed:
            if self._runs.get(identity) is run:
                del self._runs[identity]
                self.tokens -= run.item.tokens
            self._forget(identity)

    def _forget(self, identity: str) -> None:
        """Take a tenant that has nothing any more out of the order."""
        if not self._waiting.get(identity):
            self._waiting.pop(identity, None)
            if identity not in self._runs and identity in self._order:
                self._order.remove(identity)
