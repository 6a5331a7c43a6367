"""One input in the queue and the engine, and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from osa.service.engines.base import Spans
from osa.service.errors import ServiceError

if TYPE_CHECKING:
    from osa.service.batching.flows import Flow

AGE_BOUND_S = 5.0
"""Urgency of an item without a deadline: as if its deadline were this long after arrival [s]."""


class ItemResult(NamedTuple):
    """Result of one input: its vectors, or an error.

    Attributes:
        embedding: Unit vector [E].
        norm: Length of the vector before normalisation.
        token_vectors: Vector of every token [n, E], if requested; not normalised.
        span_vectors: Vector of every span [m, E], if requested; not normalised.
        error: Why there is no vector.
        queued_s: Time spent waiting for a batch [s].
        inference_s: Duration of the batch that computed it [s].
    """

    embedding: np.ndarray | None = None
    norm: float = 0.0
    token_vectors: np.ndarray | None = None
    span_vectors: np.ndarray | None = None
    error: ServiceError | None = None
    queued_s: float = 0.0
    inference_s: float = 0.0


@dataclass(eq=False)
class WorkItem:
    """One input on its way through queue and engine.

    Attributes:
        ids: Token ids, or features, float32 [n, F].
        deliver: Called once, from the engine thread, with the result.
        token_vectors: Whether the vector of every token is requested.
        spans: Token ranges [start, stop) whose vectors are requested.
        deadline: When the answer becomes useless (monotonic clock) [s]; extended when a request
            with a later one joins.
        arrived: When it was queued (monotonic clock) [s].
        cancelled: Set when nobody waits for the result any more.
        waiting: Whether the queue holds it.
        trace_span: Tracing span of the request that queued it, if requests are traced.
        flow: Where the queue holds it.
        progress: Of a document, the share that is computed; None for other inputs.
        queued_urgency: Its urgency when it was queued; that may change while it waits [s].
    """

    ids: Sequence[int] | np.ndarray
    deliver: Callable[[ItemResult], None] = lambda result: None
    deadline: float = math.inf
    token_vectors: bool = False
    spans: Spans | None = None
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    waiting: bool = False
    trace_span: object = None
    flow: Flow | None = None
    progress: float | None = None
    queued_urgency: float = 0.0

    @property
    def urgency(self) -> float:
        """When the item should be computed (monotonic clock) [s]."""
        return min(self.deadline, self.arrived + AGE_BOUND_S)

    @property
    def tokens(self) -> int:
        """Cost of the item: tokens, or rows of features [tokens]."""
        return len(self.ids)
