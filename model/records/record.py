"""What a reader finds on one line of a text file, or in one row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_RECORD_BYTES = 1 << 20
"""Longest record that is read unless told otherwise [bytes]."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record.

    Attributes:
        line: Line or row number, from 1.
        values: Value by name; see the reader for which names.
    """

    line: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that cannot be used.

    Attributes:
        file: Where it is.
        line: Line or row number, from 1.
        reason: What came, and what is expected.
        kind: A few words under which problems are counted, such as ``not UTF-8``.
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
    """A line of nothing but white space: skipped, and no problem.

    Attributes:
        line: Line number, from 1.
    """

    line: int


Item = Record | Problem | Blank


class BadRecord(ValueError):
    """Why a record cannot be used; readers turn it into a ``Problem``.

    Attributes:
        kind: See ``Problem``.
        reason: See ``Problem``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        """See the attributes."""
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
