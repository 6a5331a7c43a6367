"""One pod: a queue, batches by the server's own planner, and an engine that takes time for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from osa.service.batching.batch_queue import LEAST_BUDGET
from osa.service.batching.planner import LOOK_AHEAD, plan_batch
from osa.service.server_settings import BatchingSettings

DEFAULTS = BatchingSettings()


@dataclass(frozen=True)
class EngineCost:
    """What a batch takes: a fixed part, and the rest by its tokens.

    Attributes:
        batch_s: Of every batch [s].
        token_s: Of every token [s].
    """

    batch_s: float
    token_s: float

    @property
    def rate(self) -> float:
        """Tokens a second in large batches."""
        return 1.0 / self.token_s

    def seconds(self, tokens: int) -> float:
        """Of a batch of so many tokens [s]."""
        return self.batch_s + self.token_s * tokens


@dataclass(frozen=True)
class PodLimits:
    """Settings of the server that matter here, with its defaults.

    Attributes:
        batch_tokens: ``batching.max_batch_tokens``.
        batch_items: ``batching.max_batch_requests``.
        queue_tokens: ``batching.max_queue_tokens``.
        target_batch_s: ``batching.target_batch_s`` [s].
    """

    batch_tokens: int = DEFAULTS.max_batch_tokens
    batch_items: int = DEFAULTS.max_batch_requests
    queue_tokens: int = DEFAULTS.max_queue_tokens
    target_batch_s: float = DEFAULTS.target_batch_s


@dataclass(slots=True)
class Request:
    """An input on its way.

    Attributes:
        arrived: When it was sent first [s].
        tokens: Its length.
    """

    arrived: float
    tokens: int


@dataclass(eq=False, slots=True)
class Pod:
    """A pod.

    Attributes:
        cost: Of its engine.
        limits: Of its server.
        ready_at: When it can answer [s].
        waiting: Requests in its queue.
        batch: Requests that its engine computes.
        queued: Tokens in the queue.
        served: Requests that it has answered.
        busy_s: Time that its engine has computed [s].
        busy_since: Since when it computes; None while it is idle.
        leaving: Whether it gets no more requests.
        dead: Whether it is gone.
    """

    cost: EngineCost
    limits: PodLimits
    ready_at: float
    waiting: deque[Request] = field(default_factory=deque)
    batch: list[Request] = field(default_factory=list)
    queued: int = 0
    served: int = 0
    busy_s: float = 0.0
    busy_since: float | None = None
    leaving: bool = False
    dead: bool = False

    def put(self, request: Request) -> bool:
        """Queue a request; False where the queue is full (429)."""
        if self.queued + request.tokens > self.limits.queue_tokens:
            return False
        self.waiting.append(request)
        self.queued += request.tokens
        return True

    def begin(self, now: float) -> float:
        """Take the next batch; when it will be done [s]."""
        budget = self._budget()
        reach = self.limits.batch_items + LOOK_AHEAD
        lengths = (request.tokens for request in islice(self.waiting, reach))
        chosen = plan_batch(lengths, budget, self.limits.batch_items)
        if chosen == list(range(len(chosen))):
            self.batch = [self.waiting.popleft() for _ in chosen]
        else:
            taken = set(chosen)
            head = [self.waiting.popleft() for _ in range(chosen[-1] + 1)]
            self.batch = [head[place] for place in chosen]
            left = [one for place, one in enumerate(head) if place not in taken]
            self.waiting.extendleft(reversed(left))
        tokens = sum(request.tokens for request in self.batch)
        self.queued -= tokens
        self.busy_since = now
        return now + self.cost.seconds(tokens)

    def end(self, now: float) -> list[Request]:
        """The batch is done: its requests."""
        assert self.busy_since is not None
        self.busy_s += now - self.busy_since
        self.busy_since = None
        done, self.batch = self.batch, []
        self.served += len(done)
        return done

    def busy_until(self, now: float) -> float:
        """Time that the engine has computed by now [s]: ``osa_engine_busy_seconds_total``."""
        return self.busy_s + (0.0 if self.busy_since is None else now - self.busy_since)

    def backlog_s(self) -> float:
        """Time that the queue takes [s]: ``osa_backlog_seconds``."""
        return self.queued * self.cost.token_s

    def _budget(self) -> int:
        timely = max(LEAST_BUDGET, int(self.cost.rate * self.limits.target_batch_s))
        return min(self.limits.batch_tokens, timely)
