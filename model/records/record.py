"""Results of reading one line of a text file, or one row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_RECORD_BYTES = 1 << 20
"""Default limit of the length of a record [bytes]."""
MAX_COLUMNS = 10_000
"""Most columns of a record or a table that are all read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record.

    Attributes:
        line: Line or row number, from 1.
        values: Values by name; the reader defines the names.
        size: About how much text it was read from [characters].
    """

    line: int
    values: dict[str, Any]
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that cannot be used.

    Attributes:
        file: The file.
        line: Line or row number, from 1.
        reason: The value found, and what is expected.
        kind: Category under which problems are counted, such as ``not UTF-8``.
    """

    file: Path
    line: int
    reason: str
    kind: str

    def __str__(self) -> str:
        """``file:line: reason``."""
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Blank:
    """A line of white space alone: skipped, not a problem.

    Attributes:
        line: Line number, from 1.
    """

    line: int


Item = Record | Problem | Blank


class BadRecord(ValueError):
    """A record cannot be used; readers turn the exception into a ``Problem``.

    Attributes:
        kind: See ``Problem``.
        reason: See ``Problem``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        """See the attributes."""
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
