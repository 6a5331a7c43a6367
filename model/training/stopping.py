"""Runs that are stopped by a signal: it is noted, and heeded between two updates."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

from osa.model.errors import OsaError


class Interrupted(OsaError):
    """The run was stopped by a signal, after saving its state."""

    code = "interrupted"


class StopSignal:
    """Notes SIGINT and SIGTERM while it is entered, instead of ending the process.

    Attributes:
        number: The last one that came; 0 for none.
    """

    def __init__(self) -> None:
        """Note nothing yet."""
        self.number = 0

    def __enter__(self) -> Self:
        """Take the place of the handlers that are there."""
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
