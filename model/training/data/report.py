"""What was found in the files: counts by reason, the first problems, and when it is too much."""

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
"""Problems that a message shows."""
LARGEST_RECORD = 1 << 30
"""A batch of the store must stay within 32-bit offsets [bytes]."""
MAX_WITHOUT_GOOD = 1000
"""Records without a good one after which reading on is in vain."""


@dataclass(frozen=True)
class Rules:
    """What is read, and how much of it may be bad.

    Attributes:
        on_bad: Stop at the first bad record (``refuse``), or leave it out (``skip``).
        max_bad_share: Largest share of bad records that are left out.
        limit: Stop after this many good examples; None for all.
        max_record_bytes: Longest line, or value of a table [bytes].
    """

    on_bad: OnBad = "skip"
    max_bad_share: float = 0.01
    limit: int | None = None
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
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
    """What was found.

    Attributes:
        total: Records, good and bad.
        kept: Good ones.
        empty: Lines of nothing but white space, which are no records.
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
    """A report in the making, which stops the work when it finds too much.

    Attributes:
        rules: When to stop.
        log: Gets every problem as a line of JSON.
        log_name: Where the user finds it.
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
            DataError: It is one too many.
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
        """Have as many examples been kept as were asked for?"""
        return self.kept == self.rules.limit

    def report(self) -> Report:
        """The counts as they are now."""
        total = self.kept + self.bad.total()
        return Report(total, self.kept, self.empty, dict(self.bad), tuple(self.first))

    def finish(self, files: str) -> Report:
        """The report, when it allows to go on.

        Args:
            files: Their names, for the message.

        Raises:
            DataError: Too many records are bad, or none is good.
        """
        report, bad = self.report(), self.bad.total()
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
