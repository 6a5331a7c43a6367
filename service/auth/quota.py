"""Per-key quotas of tokens."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from osa.service.errors import QuotaError


@dataclass(eq=False)
class TokenBucket:
    """A token bucket that holds one minute's quota and is refilled continuously.

    A request larger than the whole bucket may overdraw a full one, so that every request can be
    served eventually; the debt is refilled before the next.
    """

    per_minute: int
    level: float = field(init=False)
    _at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Start full."""
        self.level = float(self.per_minute)

    def take(self, tokens: int, now: float | None = None) -> None:
        """Take tokens.

        Raises:
            QuotaError: There are not enough; says when there will be.
        """
        with self._lock:
            now = time.monotonic() if now is None else now
            refilled = self.level + (now - self._at) * self.per_minute / 60
            self.level, self._at = min(refilled, self.per_minute), now
            needed = min(tokens, self.per_minute)
            if self.level < needed:
                wait_s = (needed - self.level) * 60 / self.per_minute
                raise QuotaError(
                    f"{tokens} tokens are asked for, {max(0, int(self.level))} of "
                    f"{self.per_minute} a minute are left",
                    max(1, math.ceil(wait_s)),
                )
            self.level -= tokens

    def give_back(self, tokens: int) -> None:
        """Return tokens of a request that was refused after all."""
        with self._lock:
            self.level = min(self.level + tokens, self.per_minute)
