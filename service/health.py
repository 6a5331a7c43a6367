"""Whether this process lives, and whether it wants traffic."""

from __future__ import annotations

import time
from dataclasses import dataclass

from osa.service.batching import BatchQueue
from osa.service.settings import ServerSettings
from osa.service.worker import EngineWorker

FULL_SHARE = 0.9
"""Share of the queue's tokens beyond which the process asks for no more traffic."""


@dataclass
class Health:
    """State of the process, read by probes, gates and the drain.

    Attributes:
        worker: The engine thread.
        queue: What waits for it.
        settings: Limits.
        open_requests: HTTP requests that have been admitted and not answered.
        in_flight: Of these, inference requests whose body has arrived.
        drain_until: When the drain ends at the latest (monotonic clock) [s]; None before it.
    """

    worker: EngineWorker
    queue: BatchQueue
    settings: ServerSettings
    open_requests: int = 0
    in_flight: int = 0
    drain_until: float | None = None

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

    def live_problem(self) -> str | None:
        """Why the process should be restarted, or None."""
        if not self.worker.alive:
            return "the engine thread does not run"
        if self.worker.busy_s() > self.settings.stall_timeout_s:
            return f"one batch has been running for {self.worker.busy_s():.0f} s"
        return None

    def ready_problem(self) -> str | None:
        """Why the process should get no traffic, or None."""
        if self.draining:
            return "draining"
        if self.queue.tokens > FULL_SHARE * self.queue.max_tokens:
            return "the queue is full"
        if self.in_flight >= self.settings.max_concurrent_requests:
            return "too many requests are open"
        return self.live_problem()
