"""Names of models in metrics: which are in use, and for how long those that are not are kept."""

from __future__ import annotations

import threading

KEPT_MODELS = 16
"""Models that are served no longer whose counters stay: names without end must fill no memory."""


class ModelNames:
    """Counts the users of each name; of one name, a new model begins before the old one ends."""

    def __init__(self) -> None:
        """No name is in use."""
        self._users: dict[str, int] = {}
        self._ended: dict[str, None] = {}  # in the order in which they ended
        self._lock = threading.Lock()

    def begin(self, model: str) -> None:
        """Count one more user."""
        with self._lock:
            self._users[model] = self._users.get(model, 0) + 1
            self._ended.pop(model, None)

    def end(self, model: str, keep: bool) -> tuple[bool, list[str]]:
        """Count one user less.

        Args:
            model: Its name.
            keep: Whether the counters stay as those of one of the last ``KEPT_MODELS``.

        Returns:
            Whether it was the last, and the models whose counters are to be removed.
        """
        with self._lock:
            self._users[model] -= 1
            if self._users[model]:
                return False, []
            del self._users[model]
            if not keep:
                return True, [model]
            self._ended[model] = None
            dropped = list(self._ended)[: max(0, len(self._ended) - KEPT_MODELS)]
            for name in dropped:
                del self._ended[name]
            return True, dropped
