"""Several models share one device: who computes next. No HTTP, no torch.

Start-time fair queueing over engine seconds (Goyal, Vin and Chen, 1996): among the models that
wait, the one that has used the least engine time goes first, and a model that comes back from
idleness starts level with those that worked, so it can neither starve nor hoard.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Turn:
    """One model's place in the order.

    Attributes:
        used_s: Engine time it is charged with [s].
    """

    used_s: float = 0.0


@dataclass(eq=False)
class EngineTurns:
    """A lock on the device that goes to the waiting model with the least time used."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[Turn] = field(default_factory=list)
    _holder: tuple[int, Turn, float] | None = None
    _level_s: float = 0.0
    _tickets: itertools.count[int] = field(default_factory=itertools.count)

    def acquire(self, turn: Turn) -> int:
        """Wait for the device; returns the ticket to give back."""
        with self._changed:
            turn.used_s = max(turn.used_s, self._level_s)
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._holder is None and self._next() is turn)
            finally:  # a thread that dies here must not stand in the others' way
                self._waiting.remove(turn)
            ticket = next(self._tickets)
            self._level_s = max(self._level_s, turn.used_s)
            self._holder = (ticket, turn, time.monotonic())
            return ticket

    def release(self, ticket: int) -> None:
        """Give the device back and be charged; a ticket that was taken away changes nothing."""
        with self._changed:
            if self._holder is None or self._holder[0] != ticket:
                return
            _, turn, since = self._holder
            turn.used_s += time.monotonic() - since
            self._holder = None
            self._changed.notify_all()

    def _next(self) -> Turn:
        return min(self._waiting, key=lambda turn: turn.used_s)
