"""One input in the queue and the engine, and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from osa.service.errors import ServiceError

AGE_BOUND_S = 5.0
"""Urgency of an item without a deadline: as if its deadline were this long after arrival [s]."""


@dataclass(frozen=True)
class ItemResult:
    """What became of one input: a vector with its raw length, or an error.

    Attributes:
        embedding: Unit vector [E].
        norm: Length of the vector before normalising.
        tokens: Every token's own vector [n, E], where they were asked for.
        error: Why there is no vector.
        queued_s: Time spent waiting for a batch [s].
        inference_s: Time of the batch that computed it [s].
    """

    embedding: np.ndarray | None = None
    norm: float = 0.0
    tokens: np.ndarray | None = None
    error: ServiceError | None = None
    queued_s: float = 0.0
    inference_s: float = 0.0


@dataclass(eq=False)
class WorkItem:
    """One input on its way through queue and engine.

    Attributes:
        ids: Token ids.
        deliver: Called once, from the engine thread, with the result.
        wants_tokens: Whether every token's own vector is wanted.
        deadline: When the answer is worth nothing any more (monotonic clock) [s]; later than when
            it was queued where a request with a later one has joined.
        arrived: When it was queued (monotonic clock) [s].
        cancelled: Set when nobody waits for the result any more.
        waiting: Whether the queue holds it.
        span: Of the request that it was queued for, where requests are traced.
    """

    ids: Sequence[int]
    deliver: Callable[[ItemResult], None] = lambda result: None
    deadline: float = math.inf
    wants_tokens: bool = False
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    waiting: bool = False
    span: object = None

    @property
    def urgency(self) -> float:
        """When the item should be served (monotonic clock) [s]."""
        return min(self.deadline, self.arrived + AGE_BOUND_S)

    @property
    def tokens(self) -> int:
        """Cost of the item [tokens]."""
        return len(self.ids)
