"""Progress on standard error: a bar on a terminal, lines at intervals elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from osa.model.common.terminal import harmless

QUIET_INTERVAL_S = 10.0
"""Interval of lines where standard error is not a terminal [s]."""
Item = TypeVar("Item")


def say(message: str) -> None:
    """Print a line to standard error, harmless to a terminal."""
    print(harmless(message, lines=True), file=sys.stderr, flush=True)


class Progress:
    """Counts items; a tqdm bar on a terminal, lines elsewhere, nothing where disabled."""

    def __init__(
        self,
        label: str,
        unit: str,
        total: int | None = None,
        initial: int = 0,
        enabled: bool = True,
        interval_s: float = QUIET_INTERVAL_S,
    ) -> None:
        """Describe the work; ``with`` starts it.

        Args:
            label: Name of the work.
            unit: Name of the items, in the plural.
            total: Number of items, where known.
            initial: Number of items that are already done.
            enabled: Whether anything is shown.
            interval_s: Interval of lines where standard error is not a terminal [s].
        """
        self.done = self._told = initial
        self._label, self._unit, self._total = label, unit, total
        self._begun_with, self._enabled, self._interval_s = initial, enabled, interval_s
        self._bar: Any = None
        self._note = ""

    def __enter__(self) -> Self:
        """Start counting."""
        self._begun_at = self._told_at = time.monotonic()
        if self._enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._label,
                unit=f" {self._unit}",
                total=self._total,
                initial=self.done,
                file=sys.stderr,
                mininterval=0.5,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, with a last line of the count."""
        if self._bar is not None:
            self._bar.close()
        elif self._enabled and self._told_at > self._begun_at and self._told != self.done:
            self._tell(time.monotonic())

    def update(self, count: int = 1, note: str = "") -> None:
        """Count items as done; ``note`` is shown beside the count."""
        self.done += count
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(count)
            if note:
                self._bar.set_postfix_str(note, refresh=False)
        elif self._enabled and (now := time.monotonic()) - self._told_at >= self._interval_s:
            self._tell(now)

    def expect(self, total: int) -> None:
        """Say how many items there are, where it was not known at first."""
        self._total = total
        if self._bar is not None:
            self._bar.total = total

    def track(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items and count each."""
        for item in items:
            self.update()
            yield item

    def write(self, message: str) -> None:
        """Print a line above the bar."""
        if self._bar is None:
            say(message)
        else:
            self._bar.write(harmless(message, lines=True), file=sys.stderr)

    def _tell(self, now: float) -> None:
        self._told_at, self._told = now, self.done
        rate = (self.done - self._begun_with) / max(now - self._begun_at, 1e-9)
        count = f"{self.done}" if self._total is None else f"{self.done} of {self._total}"
        left = (self._total or self.done) - self.done
        time_left = f", {timedelta(seconds=round(left / rate))} left" if left > 0 < rate else ""
        note = f", {self._note}" if self._note else ""
        say(f"{self._label}: {count} {self._unit}, {rate:.3g}/s{time_left}{note}")
