"""The bounded queue of waiting inputs: fair between tenants, by urgency within each. No HTTP.

Work is counted in tokens. ``put`` takes a request's items all together or not at all. The tenant
that was served least, over its weight, is next (``flows``). Its most urgent item is always part of
the next batch: urgent means near its deadline, or near ``AGE_BOUND_S`` of waiting, so that nothing
starves behind items with deadlines. Later items that fit, whose they may be, fill the rest of the
token budget.

A tenant may hold as much of the queue as it leaves free (one of several, where keys are asked for),
so there is always room for one that comes later. Source: A. Choudhury and E. Hahne, "Dynamic queue
length thresholds for shared-memory packet switches", IEEE/ACM Trans. Networking 6(2), 1998.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.batching.documents import LOOK_S, DocumentLane, DocumentLimits
from osa.service.batching.faults.out_of_memory import MemoryLimit
from osa.service.batching.flows import Flows
from osa.service.batching.item import WorkItem
from osa.service.batching.planner import plan_batch
from osa.service.errors import OverloadedError, TooManyTokensError, UnavailableError

RATE_DECAY = 0.8
"""Decay per batch of the throughput estimate."""
SAFETY = 1.2
"""Factor on the estimated wait of a request with a deadline."""
LEAST_BUDGET = 1024
"""Smallest token budget of a batch, however slow the engine; while tenants compete a quarter of it
[tokens]."""
COMPETING, COMPETING_S = 4, 1.0
"""Batches are so many times smaller while several tenants compete, and for so long after [s]: what
one has in hand makes the others wait."""


class BatchQueue:
    """Waiting items, bounded in tokens; any thread may put, one engine thread takes."""

    def __init__(
        self,
        max_tokens: int,
        max_batch_tokens: int,
        max_batch_items: int,
        target_batch_s: float = math.inf,
        documents: DocumentLimits | None = None,
    ) -> None:
        """Create an empty queue.

        Args:
            max_tokens: Capacity [tokens].
            max_batch_tokens: Largest batch [tokens]; a longer item is a batch of its own.
            max_batch_items: Most items of a batch.
            target_batch_s: Longest time that a batch should take at the measured rate [s].
            documents: Bounds of inputs that are computed in chunks; None where none are.
        """
        self.max_tokens = max_tokens
        self.max_batch_tokens, self.max_batch_items = max_batch_tokens, max_batch_items
        self.memory_limit = MemoryLimit(max_batch_tokens)
        self.target_batch_s = target_batch_s
        self._in_progress = 0  # tokens of batches that were taken and not ended
        self._flows = Flows(max_batch_tokens)
        self._done_tokens = self._done_s = 0.0
        self._full_tokens = self._full_s = 0.0  # of batches that were not made smaller
        self._competing = False
        self._competed_at = -math.inf
        self._latest = self._latest_other = (EVERYBODY, -math.inf)  # two tenants, and when
        self._closed = ""  # why nothing more is taken
        self._changed = threading.Condition()
        self.documents: DocumentLane | None = None
        if documents is not None:
            self.documents = DocumentLane(documents, self._changed)

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._flows.tokens

    def __len__(self) -> int:
        """Items that wait."""
        return self._flows.count

    def observe(self, tokens: int, seconds: float) -> None:
        """Record that a batch of ``tokens`` took ``seconds`` [s]."""
        self._done_tokens = RATE_DECAY * self._done_tokens + tokens
        self._done_s = RATE_DECAY * self._done_s + seconds
        if not self._competing:
            self._full_tokens = RATE_DECAY * self._full_tokens + tokens
            self._full_s = RATE_DECAY * self._full_s + seconds
        self.memory_limit.fitted()
        if self.documents is not None:
            self.documents.pace.observe_batch(seconds)

    def expected_s(self, tokens: int) -> float:
        """Time that ``tokens`` take at the measured rate [s]; 0 before the first batch."""
        return tokens * self._done_s / self._done_tokens if self._done_tokens else 0.0

    def tokens_per_second(self) -> float:
        """The measured rate [tokens/s]; 0 before the first batch."""
        return self._done_tokens / self._done_s if self._done_s else 0.0

    def _full_rate(self) -> float:
        """The rate of batches that were not made smaller, which have their own [tokens/s].

        A batch's fixed cost weighs more in small ones: their rate would make them smaller yet.
        """
        if not self._full_s:
            return self.tokens_per_second()
        return self._full_tokens / self._full_s

    def batch_budget(self) -> int:
        """Budget of the next batch: what fits in memory and in ``target_batch_s`` [tokens]."""
        return self._budget(COMPETING if self._competing else 1)

    def _budget(self, parts: int) -> int:
        """The budget where a batch may take a part of ``target_batch_s``."""
        if not self._done_tokens or self.target_batch_s == math.inf:
            return self.memory_limit.tokens
        timely = max(LEAST_BUDGET, int(self._full_rate() * self.target_batch_s))
        return min(self.memory_limit.tokens, timely // parts)

    def backlog_s(self) -> float:
        """Time that the queue takes at the measured rate [s]; 0 before the first batch."""
        return self.expected_s(self._flows.tokens)

    def most_at_once(self, tenant: Tenant) -> int:
        """The largest request that a tenant can ever put [tokens]."""
        if tenant.identity == EVERYBODY.identity:
            return self.max_tokens
        return min(self.max_tokens, max(self.max_batch_tokens, self.max_tokens // 2))

    def put(self, items: Sequence[WorkItem], tenant: Tenant = EVERYBODY) -> None:
        """Queue all items, or none.

        Raises:
            OverloadedError: Their tokens do not fit, the tenant would hold more than it leaves
                free, or they would come after their deadline; says when to come back.
            TooManyTokensError: They would not fit an empty queue.
            UnavailableError: The queue is closed.
        """
        lane = self.documents
        documents = [item for item in items if self.is_document(item.tokens)]
        if documents:
            items = [item for item in items if not self.is_document(item.tokens)]
        tokens = sum(item.tokens for item in items)
        with self._changed:
            if self._closed:
                raise UnavailableError(self._closed)
            self._check_room(tokens, tenant)
            self._check_deadline(items, tokens, tenant)
            if documents and lane is not None:
                lane.check(documents)
                lane.add(documents, tenant)
            self._flows.add(tenant, items)
            if tenant.identity != self._latest[0].identity:
                self._latest_other = self._latest
            self._latest = (tenant, time.monotonic())
            self._changed.notify()

    @property
    def longest(self) -> int:
        """Longest input that is computed in a batch [tokens]."""
        return self.max_tokens if self.documents is None else self.documents.limits.longest

    def is_document(self, tokens: int) -> bool:
        """Whether an input of this length is computed in chunks, beside the batches."""
        return self.documents is not None and tokens > self.longest

    def _check_room(self, tokens: int, tenant: Tenant) -> None:
        """Refuse items for which there is no room.

        Raises:
            OverloadedError: Now.
            TooManyTokensError: Ever.
        """
        most, queued = self.most_at_once(tenant), self._flows.tokens
        if tokens > most:
            raise TooManyTokensError(
                f"the request has {tokens} tokens, the queue takes at most {most} at once "
                f"(batching.max_queue_tokens is {self.max_tokens}): send less at once"
            )
        free = self.max_tokens - queued
        problem = None
        if tokens > free:
            problem = f"the queue holds {queued} of {self.max_tokens} tokens"
        elif tenant.identity != EVERYBODY.identity:
            held = self._flows.waiting(tenant)
            if held + tokens > max(self.max_batch_tokens, free - tokens):
                problem = f"this API key has {held} tokens queued and leaves {free} for all"
        if problem is not None:
            raise OverloadedError(
                f"{problem}, no room for {tokens} more", max(1, math.ceil(self.backlog_s()))
            )

    def _check_deadline(self, items: Sequence[WorkItem], tokens: int, tenant: Tenant) -> None:
        """Refuse items that cannot meet their deadline behind what is served before them.

        One that has passed is left to whoever waits, whose answer says so.

        Raises:
            OverloadedError: Says when there will be time enough.
        """
        deadline = max((item.deadline for item in items), default=math.inf)
        left_s = deadline - time.monotonic()
        everything = self._flows.tokens + tokens
        if deadline == math.inf or left_s <= 0 or SAFETY * self.expected_s(everything) <= left_s:
            return
        urgency = max(item.urgency for item in items)
        ahead = self._in_progress + self._flows.ahead(tenant, urgency, tokens)
        needed_s = SAFETY * self.expected_s(ahead + tokens)
        if ahead and needed_s > left_s:
            raise OverloadedError(
                f"{ahead} tokens are served before, which takes longer than the deadline leaves",
                max(1, math.ceil(needed_s - left_s)),
            )

    def serves_others(self, tenant: Tenant, within_s: float) -> bool:
        """Whether another tenant has put something within the last ``within_s`` [s]."""
        latest = self._latest  # of two, the one that is not this tenant
        other, when = self._latest_other if latest[0].identity == tenant.identity else latest
        return other.identity != tenant.identity and time.monotonic() - when < within_s

    def cancel(self, items: Sequence[WorkItem]) -> int:
        """Drop items that still wait; returns the tokens saved."""
        saved = 0
        with self._changed:
            for item in items:
                item.cancelled = True
                if item.progress is not None and self.documents is not None:
                    saved += self.documents.cancel(item)
                elif item.waiting:
                    self._flows.drop(item)
                    saved += item.tokens
        return saved

    def wait(self) -> bool:
        """Wait for work that can be done now; False when closed and empty."""
        lane = self.documents
        with self._changed:
            while not (self._flows.count or (lane is not None and lane.ready) or self.finished):
                blocked = lane is not None and lane.pending
                self._changed.wait(LOOK_S if blocked else None)
            return self.pending

    @property
    def pending(self) -> bool:
        """Whether there are batches to take, or documents."""
        return bool(self._flows.count or (self.documents is not None and self.documents.pending))

    def take(self) -> list[WorkItem]:
        """Take the next batch; empty where nothing waits. ``end`` must follow."""
        with self._changed:
            if self._flows.competing:
                self._competed_at = time.monotonic()
            self._competing = time.monotonic() - self._competed_at <= COMPETING_S
            self._flows.slack = self._budget(1)
            lengths = (item.tokens for item in self._flows.in_turn())
            batch = self._flows.settle(
                plan_batch(lengths, self.batch_budget(), self.max_batch_items)
            )
            self._in_progress += sum(item.tokens for item in batch)
            return batch

    def end(self, batch: Sequence[WorkItem]) -> None:
        """Count a batch that was taken as in progress no longer, whatever became of it."""
        with self._changed:
            self._in_progress -= sum(item.tokens for item in batch)

    def drain(self) -> list[WorkItem]:
        """Remove and return every waiting item."""
        with self._changed:
            documents = [] if self.documents is None else self.documents.drain()
            return [*self._flows.drain(), *documents]

    @property
    def finished(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed != "" and not self.pending

    def close(self, reason: str = "the server is draining") -> None:
        """Refuse further work for a reason; ``wait`` returns False once the queue is empty."""
        with self._changed:
            self._closed = reason
            self._changed.notify_all()
