"""A document in work, and how long its steps may be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np

from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.errors import BackendError

LEAST, MOST = 256, 8192
"""Tokens of one step."""
LEARNT = 0.3
"""Weight of the latest step in the measured rate, and of the latest batch in the time of one."""
BATCH_SHARE = 0.5
"""Longest step over the time of the batches that it keeps waiting."""
LATELY_S = 1.0
"""Batches that are longer ago than this are kept waiting no more [s]."""


class Pace:
    """Tokens of a step, from what steps and batches took. The engine thread alone."""

    def __init__(self, turn_s: float) -> None:
        """Take steps of at most ``turn_s`` [s]."""
        self._turn_s = turn_s
        self._batch_s, self._batch_at = 0.0, -math.inf
        self.rate = 0.0
        """Tokens of one pass in a second, while it has its turn; 0 before the first step."""

    def observe_step(self, tokens: int, seconds: float) -> None:
        """Note what a step took [s]."""
        rate = tokens / max(1e-6, seconds)
        self.rate += LEARNT * (rate - self.rate) if self.rate else rate

    def observe_batch(self, seconds: float) -> None:
        """Note what a batch of shorter inputs took [s]."""
        now = time.monotonic()
        fresh = now - self._batch_at < LATELY_S
        self._batch_s += LEARNT * (seconds - self._batch_s) if fresh else seconds - self._batch_s
        self._batch_at = now

    def tokens(self) -> int:
        """Of the next step."""
        seconds = self._turn_s
        if time.monotonic() - self._batch_at < LATELY_S:
            seconds = min(seconds, BATCH_SHARE * self._batch_s)
        return min(MOST, max(LEAST, int(self.rate * seconds)))


@dataclass(eq=False)
class DocumentRun:
    """A document in work.

    Attributes:
        identity: Of the tenant whose it is.
        item: The input.
        steps: What computes it.
        waits: Whether it still waits for the disk; None where it does not.
        began: When it was begun (monotonic clock) [s].
        spans: Vectors of the spans that have ended, by their places.
    """

    identity: str
    item: WorkItem
    steps: Generator[Progress, None, Document]
    waits: Callable[[], bool] | None = None
    began: float = field(default_factory=time.monotonic)
    spans: dict[int, np.ndarray] = field(default_factory=dict)

    def is_ready(self) -> bool:
        """Whether there is something to do: a step, or what became of a document not wanted."""
        return self.waits is None or self.is_over() or not self.waits()

    def is_over(self) -> bool:
        """Whether nobody waits for it any more, or not for long enough."""
        return self.item.cancelled or self.item.deadline <= time.monotonic()

    def step(self) -> ItemResult | None:
        """Compute a chunk of a layer; the result after the last one."""
        self.waits = None
        try:
            step = next(self.steps)
        except StopIteration as end:
            document: Document = end.value
            return self._result(document)
        self.waits = step.waits
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
