"""Long inputs of one model: computed chunk by chunk, in turns between the batches of others.

An input longer than a batch may be is a document. Each tenant has one in work at a time, and they
take turns; a turn ends after ``turn_s``, or at the next step where shorter inputs wait. One whose
disk is behind has no turn until that has caught up: the thread never waits for a disk. Between two
steps a document that nobody waits for any more, or whose deadline has passed, gives its memory
and disk back. Documents do not count in the queue of the others, but have a bound of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.auth.tenants import Tenant
from osa.service.batching.document_run import DocumentRun, Pace
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
LOOK_S = 0.1
"""How often deadlines are looked at while all documents wait for their disks [s]."""


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


class DocumentLane:
    """Documents that wait, and those in work. Any thread puts; the engine thread takes turns."""

    def __init__(self, limits: DocumentLimits, changed: threading.Condition) -> None:
        """Start empty; ``changed`` guards what waits."""
        self.limits, self._changed = limits, changed
        self._waiting: dict[str, deque[WorkItem]] = {}
        self._runs: dict[str, DocumentRun] = {}
        self._order: deque[str] = deque()
        self.pace = Pace(limits.turn_s)
        self.tokens = 0
        """Of all that wait or are in work."""

    @property
    def pending(self) -> bool:
        """Whether there are documents."""
        return bool(self._order)

    @property
    def ready(self) -> bool:
        """Whether there is a turn to take; within the lock, or on the engine thread."""
        return any(map(self._can_turn, tuple(self._order)))

    def _can_turn(self, identity: str) -> bool:
        run = self._runs.get(identity)
        return run is None or run.is_ready()

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
            left_s = self.tokens * 4 / self.pace.rate if self.pace.rate else 1.0
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
            if run.is_over():
                result = ItemResult(error=DeadlineError("the deadline has passed"))
                break
            try:
                result = run.step()
            except Exception as error:  # engines raise what their libraries raise
                logger.warning("document failed", extra={"kind": type(error).__name__})
                result = ItemResult(error=BackendError(f"the engine failed on this input: {error}"))
            late = time.monotonic() >= end or run.waits is not None or others_wait()
            if result is None and late:
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

    def _next(self, engine: Engine) -> DocumentRun | None:
        """The document whose turn it is, begun where it is new; others are next after it."""
        with self._changed:
            identity = next(filter(self._can_turn, self._order), None)
            if identity is None:
                return None
            self._order.remove(identity)
            self._order.append(identity)
            run = self._runs.get(identity)
            if run is None:
                item = self._waiting[identity].popleft()
                item.waiting = False
                run = DocumentRun(identity, item, self._steps(engine, item))
                self._runs[identity] = run
            return run

    def _wake(self) -> None:
        """From the thread of a disk: a document can go on."""
        with self._changed:
            self._changed.notify_all()

    def _steps(self, engine: Engine, item: WorkItem) -> Generator[Progress, None, Document]:
        """The steps of a document, whose rate is measured."""
        assert isinstance(engine, StreamingEngine)  # others have no documents
        limits = self.limits
        options = StreamOptions(
            chunk=self.pace.tokens,
            directory=limits.directory,
            keep_states=limits.keep_states,
            wake=self._wake,
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
                if step.tokens:
                    self.pace.observe_step(step.tokens, time.monotonic() - began)
                yield step
        finally:
            steps.close()

    def _end(self, identity: str, run: DocumentRun) -> None:
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
