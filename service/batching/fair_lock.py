"""A lock on the device that several models share, granted by start-time fair queueing.

Among the models that wait, the one with the least engine time is served first; a model that was
idle starts level with those that worked, so it can neither starve nor accumulate credit. Source:
P. Goyal, H. Vin and H. Chen, "Start-time Fair Queueing", SIGCOMM 1996. No HTTP, no torch.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Flow:
    """One model's account.

    Attributes:
        used_s: Engine time charged to it [s].
    """

    used_s: float = 0.0


@dataclass(eq=False)
class FairLock:
    """A lock that is granted to the waiting flow with the least time used."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[Flow] = field(default_factory=list)
    _holder: tuple[int, Flow, float] | None = None
    _level_s: float = 0.0
    _tickets: itertools.count[int] = field(default_factory=itertools.count)

    def acquire(self, flow: Flow) -> int:
        """Wait for the lock; returns the ticket that releases it."""
        with self._changed:
            flow.used_s = max(flow.used_s, self._level_s)
            self._waiting.append(flow)
            try:
                self._changed.wait_for(lambda: self._holder is None and self._next() is flow)
            finally:  # a thread that dies here must not block the others
                self._waiting.remove(flow)
            ticket = next(self._tickets)
            self._level_s = max(self._level_s, flow.used_s)
            self._holder = (ticket, flow, time.monotonic())
            return ticket

    @property
    def contended(self) -> bool:
        """Whether another flow waits."""
        return bool(self._waiting)

    def release(self, ticket: int) -> None:
        """Release the lock and charge its holder; a ticket that no longer holds it does nothing."""
        with self._changed:
            if self._holder is None or self._holder[0] != ticket:
                return
            _, flow, since = self._holder
            flow.used_s += time.monotonic() - since
            self._holder = None
            self._changed.notify_all()

    def _next(self) -> Flow:
        return min(self._waiting, key=lambda flow: flow.used_s)
