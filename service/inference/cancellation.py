"""Whether the work of a request is still wanted, for every thread that works on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from osa.service.errors import ClientGoneError, DeadlineError, ServiceError


class Cancellation:
    """The deadline of one request, and whether somebody has ended it. Any thread.

    Long work calls ``check`` between its steps: what nobody waits for ends at the next one.
    """

    __slots__ = ("_between", "_why", "deadline")

    def __init__(self, deadline: float = math.inf) -> None:
        """End at ``deadline`` (monotonic clock) [s], if not before."""
        self.deadline = deadline
        self._why: ServiceError | None = None
        self._between: Callable[[], object] | None = None

    @contextmanager
    def stepping(self, between: Callable[[], object]) -> Iterator[None]:
        """Within the block, which one thread works in, every ``check`` calls ``between`` too."""
        self._between = between
        try:
            yield
        finally:
            self._between = None

    def cancel(self, why: ServiceError | None = None) -> None:
        """End the request's work, by default as its client went away; the first call counts."""
        if self._why is None:
            self._why = why or ClientGoneError("the client went away")

    def check(self) -> None:
        """Go on, or end here.

        Raises:
            DeadlineError: The deadline has passed.
            ServiceError: What ``cancel`` was called with.
        """
        if self._why is not None:
            raise self._why.again()
        if self.deadline != math.inf and time.monotonic() >= self.deadline:
            raise DeadlineError("no answer before the deadline")
        if self._between is not None:
            self._between()
