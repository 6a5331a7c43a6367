"""Whether this process lives, and whether it wants traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.errors import OverloadedError, UnavailableError
from osa.service.models.registry import ModelRegistry
from osa.service.server_settings import ServerSettings

FULL_SHARE = 0.9
"""Share of a queue's tokens beyond which the process asks for no more traffic."""

CLOSE_S = 1.0
"""Of a drain, for what comes after the last answer; of a short one a third [s]."""


@dataclass
class Health:
    """State of the process, read by probes, gates and the drain.

    Attributes:
        models: What is served.
        settings: Limits.
        open_requests: Requests that have come and are not answered, over HTTP and gRPC.
        in_flight: Of these, inference requests whose body has arrived.
        body_bytes: Of bodies that are arriving or being answered.
        answer_bytes: Of answers that clients have not taken to the end yet.
        slow_readers: Connections that were closed because the client did not read.
        unreadable_requests: Requests that were refused before they were known.
        drain_until: When the drain ends at the latest (monotonic clock) [s]; None before it.
    """

    models: ModelRegistry
    settings: ServerSettings
    open_requests: int = 0
    in_flight: int = 0
    body_bytes: int = 0
    answer_bytes: int = 0
    slow_readers: int = 0
    unreadable_requests: int = 0
    drain_until: float | None = None
    _held: dict[str, int] = field(default_factory=dict)
    _bodies: dict[str, int] = field(default_factory=dict)

    @property
    def draining(self) -> bool:
        """Whether the process is on its way out."""
        return self.drain_until is not None

    def begin_drain(self) -> None:
        """Ask for no more traffic, and set the time for what is open."""
        if self.drain_until is None:
            self.drain_until = time.monotonic() + self.settings.drain_timeout_s

    def drain_left_s(self) -> float:
        """Time that is left for what is open [s]."""
        return 0.0 if self.drain_until is None else max(0.0, self.drain_until - time.monotonic())

    def answers_left_s(self) -> float:
        """What of it is for answers; the rest is to close connections and the engine in [s]."""
        return max(0.0, self.drain_left_s() - min(CLOSE_S, self.settings.drain_timeout_s / 3))

    def admit(self, tenant: Tenant = EVERYBODY) -> None:
        """Refuse inference while draining, or while too much is open.

        A tenant of several may have as many open as it leaves free, so that there is always room
        for one that comes later.

        Raises:
            UnavailableError: The server is draining.
            OverloadedError: Saying how many are open, or how much of answers is not taken.
        """
        if self.draining:
            raise UnavailableError("the server is draining")
        most = self.settings.max_concurrent_requests
        held, free = self._held.get(tenant.identity, 0), most - self.in_flight
        problem = None
        if free < 1:
            problem = f"{self.in_flight} requests are open, at most {most} are served at once"
        elif tenant.identity != EVERYBODY.identity and held and held >= free:
            problem = f"{held} requests of this API key are open, which leaves {free} for all"
        elif self.answer_bytes > self.settings.answer_memory:
            problem = (
                f"answers of {self.answer_bytes} bytes wait for clients that do not take them, at "
                f"most {self.settings.answer_memory} are kept (server.answer_memory)"
            )
        if problem is not None:
            raise OverloadedError(problem, max(1, round(self.backlog_s())))

    @contextmanager
    def slot(self, tenant: Tenant = EVERYBODY) -> Iterator[None]:
        """Within the block an admitted request of a tenant is open."""
        identity = tenant.identity
        self.in_flight += 1
        self._held[identity] = self._held.get(identity, 0) + 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._held[identity] -= 1
            if not self._held[identity]:
                del self._held[identity]

    @contextmanager
    def holding_body(self, size: int, tenant: Tenant) -> Iterator[None]:
        """Within the block a body of ``size`` bytes that came whole is in memory.

        Raises:
            OverloadedError: There is no room for it.
        """
        self.count_body(size, tenant)
        try:
            problem = self.body_problem(size, tenant)
            if problem:
                raise OverloadedError(problem, max(1, round(self.backlog_s())))
            yield
        finally:
            self.count_body(-size, tenant)

    def count_body(self, size: int, tenant: Tenant) -> None:
        """Count ``size`` bytes more of a tenant's bodies, or fewer."""
        self.body_bytes += size
        held = self._bodies.pop(tenant.identity, 0) + size
        if held:
            self._bodies[tenant.identity] = held

    def body_problem(self, size: int, tenant: Tenant) -> str:
        """Why there is no room for a body of ``size`` bytes that was counted; empty if there is.

        A tenant of several may hold as much as it leaves free; its only body may have all.
        """
        total, most = self.body_bytes, self.settings.body_memory
        if total > most:
            return (
                f"bodies of requests hold {total} bytes, at most {most} are kept "
                "(server.body_memory)"
            )
        held = self._bodies.get(tenant.identity, 0)
        if tenant.identity != EVERYBODY.identity and held > size and held > most - total:
            return (
                f"bodies of this API key's requests hold {held} bytes, which leaves "
                f"{most - total} for all (server.body_memory)"
            )
        return ""

    def backlog_s(self) -> float:
        """Time that everything queued will take [s]."""
        return sum(model.queue.backlog_s() for model in self.models.all())

    def live_problem(self) -> str | None:
        """Why the process should be restarted, or None."""
        for model in self.models.all():
            problem = model.supervisor.problem(self.settings.stall_timeout_s)
            if problem is not None:
                return problem
        return None

    def ready_problem(self) -> str | None:
        """Why the process should get no traffic, or None."""
        if self.draining:
            return "draining"
        for model in self.models.all():
            problem = model.ready_problem(FULL_SHARE)
            if problem is not None:
                return problem
        if self.in_flight >= self.settings.max_concurrent_requests:
            return "too many requests are open"
        return self.live_problem()
