"""Per-key quotas of tokens."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from osa.service.errors import QuotaError, TooManyTokensError


@dataclass(eq=False)
class TokenBucket:
    """A token bucket that holds one minute's quota and is refilled continuously.

    A request takes at most ``most`` tokens. Where that is more than a minute's, it may overdraw a
    full bucket, and the debt is refilled before the next; so a debt is never larger than
    ``most - per_minute``.

    Attributes:
        per_minute: Refill, and size of the bucket [tokens].
        most: Largest request [tokens]; by default the size of the bucket.
        level: What is left; negative while there is a debt [tokens].
    """

    per_minute: int
    most: int = 0
    level: float = field(init=False)
    _at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Start full."""
        self.most = self.most or self.per_minute
        self.level = float(self.per_minute)

    def take(self, tokens: int, now: float | None = None) -> None:
        """Take tokens.

        Raises:
            QuotaError: There are not enough; says when there will be.
            TooManyTokensError: There will never be enough.
        """
        with self._lock:
            if tokens > self.most:
                raise TooManyTokensError(
                    f"{tokens} tokens are asked for at once, this API key's quota of "
                    f"{self.per_minute} a minute allows {self.most} a request: send less at once"
                )
            self._refill(time.monotonic() if now is None else now)
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

    def change(self, per_minute: int, most: int) -> None:
        """Go on with another quota; what is left, or owed, stays."""
        with self._lock:
            self._refill(time.monotonic())
            self.per_minute, self.most = per_minute, most
            self.level = min(self.level, per_minute)

    def _refill(self, now: float) -> None:
        refilled = self.level + (now - self._at) * self.per_minute / 60
        self.level, self._at = min(refilled, self.per_minute), now
