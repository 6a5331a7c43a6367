"""Counts of good and bad records, the first problems, and the limits at which reading stops."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, get_args

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.record import MAX_RECORD_BYTES, Problem

OnBad = Literal["skip", "refuse"]
SHOWN = 5
"""Most problems in a message."""
LARGEST_RECORD = 1 << 30
"""Limit of ``max_record_bytes``: a batch of the store has 32-bit offsets [bytes]."""
MAX_WITHOUT_GOOD = 1000
"""Bad records without a good one at which reading stops."""


@dataclass(frozen=True)
class Rules:
    """What is read, and how much of it may be bad.

    Attributes:
        on_bad: Stop at the first bad record (``refuse``), or leave it out (``skip``).
        max_bad_share: Largest share of bad records that may be left out.
        limit: Stop after this many good examples; None for all.
        max_record_bytes: Longest line, or value of a table [bytes].
    """

    on_bad: OnBad = "skip"
    max_bad_share: float = 0.01
    limit: int | None = None
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.on_bad not in get_args(OnBad):
            raise ConfigError(f"on_bad must be 'skip' or 'refuse', got {self.on_bad!r}")
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(f"max_bad_share must be from 0 to 1, got {self.max_bad_share}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        if not 1 <= self.max_record_bytes <= LARGEST_RECORD:
            allowed = f"from 1 to {LARGEST_RECORD}"
            raise ConfigError(f"max_record_bytes must be {allowed}, got {self.max_record_bytes}")


@dataclass(frozen=True)
class Report:
    """Counts and first problems of files.

    Attributes:
        total: Number of records, good and bad.
        kept: Number of good records.
        empty: Number of lines of white space alone, which are no records.
        bad: Bad records by kind of problem.
        first: The first problems, as ``file:line: reason``.
    """

    total: int
    kept: int
    empty: int
    bad: dict[str, int]
    first: tuple[str, ...]

    def __str__(self) -> str:
        """A line of counts, and one for each of the first problems."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.bad.items()))
        head = f"{self.kept} of {self.total} records kept, {self.empty} empty lines"
        return "\n  ".join([head + (f"; bad: {kinds}" if kinds else ""), *self.first])


@dataclass
class Tally:
    """Counts records while files are read, and stops when too many are bad.

    Attributes:
        rules: Limits at which to stop.
        log: Receives every problem as a line of JSON.
        log_name: Path of the log after the run, for messages.
    """

    rules: Rules
    log: IO[str]
    log_name: Path
    kept: int = 0
    empty: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Count and log a problem.

        Raises:
            DataError: Too many records are bad.
        """
        if self.rules.on_bad == "refuse":
            raise DataError(str(problem))
        self.bad[problem.kind] += 1
        if len(self.first) < SHOWN:
            self.first.append(str(problem))
        entry = {"file": str(problem.file), "line": problem.line, "reason": problem.reason}
        self.log.write(json.dumps(entry) + "\n")
        if not self.kept and self.bad.total() == MAX_WITHOUT_GOOD and self.rules.max_bad_share < 1:
            raise DataError(f"none of the first {MAX_WITHOUT_GOOD} records is good{self._advice()}")

    @property
    def is_full(self) -> bool:
        """Whether ``rules.limit`` is reached."""
        return self.kept == self.rules.limit

    def finish(self, files: str) -> Report:
        """The report, if the records may be used; ``files`` are named in the message.

        Raises:
            DataError: Too many records are bad, or none is good.
        """
        bad = self.bad.total()
        report = Report(self.kept + bad, self.kept, self.empty, dict(self.bad), tuple(self.first))
        if bad > self.rules.max_bad_share * report.total:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.bad.items()))
            raise DataError(
                f"{bad} of {report.total} records are bad ({bad / report.total:.2%}, allowed "
                f"are {self.rules.max_bad_share:.2%}): {kinds}{self._advice()}"
            )
        if not report.kept:
            problems = self._advice() if bad else ""
            raise DataError(
                f"no example in {files}: {bad} bad records, {self.empty} empty lines{problems}"
            )
        return report

    def _advice(self) -> str:
        shown = "".join(f"\n  {text}" for text in self.first)
        return (
            f"{shown}\nevery one is listed in {self.log_name}; correct or remove them, check that "
            "format and columns are the right ones, or raise max_bad_share"
        )
