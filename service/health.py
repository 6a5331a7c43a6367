"""Whether this process lives, and whether it wants traffic."""

from __future__ import annotations

from dataclasses import dataclass, field

from osa.service.batching import BatchQueue
from osa.service.settings import ServerSettings
from osa.service.worker import EngineWorker


@dataclass
class Health:
    """State of the process, read by probes, gates and the drain.

    Attributes:
        worker: The engine thread.
        queue: What waits for it.
        settings: Limits.
        warm: The engine has run its warm-up.
        draining: SIGTERM has come.
        in_flight: Inference requests that have been accepted and not answered.
    """

    worker: EngineWorker
    queue: BatchQueue
    settings: ServerSettings
    warm: bool = False
    draining: bool = False
    in_flight: int = field(default=0)

    def live_problem(self) -> str | None:
        """Why the process should be restarted, or None."""
        if self.warm and not self.worker.alive:
            return "the engine thread has ended"
        if self.worker.busy_s() > self.settings.stall_timeout_s:
            return f"one batch has been running for {self.worker.busy_s():.0f} s"
        return None

    def ready_problem(self) -> str | None:
        """Why the process should get no traffic, or None."""
        if self.draining:
            return "draining"
        if not self.warm:
            return "warming up"
        if self.queue.tokens >= self.queue.max_tokens:
            return "the queue is full"
        return self.live_problem()
