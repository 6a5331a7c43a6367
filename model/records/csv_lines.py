"""Reader of CSV with a header, in any dialect; a bad record costs itself and no other.

Where a record goes wrong over several lines, two readings are possible: it is bad as a whole, or a
quote was left open in its first line and what follows are other records. The second one is taken
as soon as one of the following lines begins a record that is faultless.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from osa.model.errors import ConfigError
from osa.model.records.csv_dialect import Dialect, GivenDialect, RecordReader, find_dialect
from osa.model.records.fields import decode, list_names
from osa.model.records.raw_lines import RawLine, too_long
from osa.model.records.record import MAX_COLUMNS, BadRecord, Problem, Record

SAMPLE_LINES, SAMPLE_SIZE = 200, 1 << 16
"""How much of a file its dialect is found from, at most [lines, characters]."""
MOST_LINES = 100_000
"""Most lines of a record."""
SHORT = 4096
"""How far a quote is followed that may have been left open, once many were [characters]."""
HINT = "sep="


class _Line(NamedTuple):
    """A line; of one with a problem, text that serves to find the end of the record."""

    number: int
    text: str
    end: str
    problem: Problem | None
    whole: bool


def read_csv(
    file: Path,
    lines: Iterator[RawLine],
    limit: int,
    columns: tuple[str, ...],
    given: GivenDialect | None = None,
) -> Iterator[Record | Problem]:
    """Records of a CSV file, whose values are all text, byte for byte.

    Columns of one name are told apart by numbers: ``id``, ``id_2``. Lines with nothing are skipped.

    Args:
        file: Name for messages.
        lines: Its lines.
        limit: Longest record [bytes].
        columns: Columns that the header must have once.
        given: What is known of the dialect.

    Raises:
        ConfigError: The header is missing, damaged, or lacks a column.
    """
    buffer = _Buffer(file, lines, limit)
    dialect = _begin(buffer, columns, given or GivenDialect())
    header = _read_header(file, buffer, dialect, columns)
    reading = _Reading(file, buffer, dialect, len(header), limit)
    while buffer.has(0):
        first = buffer[0]
        if first.text == "" and first.problem is None:
            buffer.drop(1)
            continue
        item = reading.next()
        if isinstance(item, Problem):
            yield item
        else:
            values = dict(zip(header, item.fields, strict=True))
            yield Record(first.number, values, item.size)


class _Buffer:
    """Lines that have been read and not yet used."""

    def __init__(self, file: Path, lines: Iterator[RawLine], limit: int) -> None:
        self._file, self._source, self._limit = file, lines, limit
        self._held: deque[_Line] = deque()
        self.used = 0

    def __getitem__(self, place: int) -> _Line:
        return self._held[place]

    def has(self, place: int) -> bool:
        """Whether there is such a line."""
        while len(self._held) <= place:
            raw = next(self._source, None)
            if raw is None:
                return False
            self._held.append(self._decode(raw))
        return True

    def drop(self, count: int) -> None:
        """Be done with lines."""
        for _ in range(count):
            self.used += len(self._held.popleft().text)

    def _decode(self, raw: RawLine) -> _Line:
        number, content, end = raw.number, raw.content, raw.end.decode()
        if isinstance(content, int):
            problem = too_long(self._file, number, content, self._limit)
            return _Line(number, "", end, problem, whole=False)
        try:
            return _Line(number, content.decode(), end, None, whole=True)
        except UnicodeDecodeError:
            text = content.decode(errors="surrogateescape")
        try:
            decode(content.replace(b"\0", b" "))
            raise AssertionError("the line is UTF-8")
        except BadRecord as error:
            problem = Problem(self._file, number, error.reason, error.kind)
        return _Line(number, text, end, problem, whole=True)


def _begin(buffer: _Buffer, columns: tuple[str, ...], given: GivenDialect) -> Dialect:
    """The dialect; a first line that tells the delimiter, as Excel writes it, is left out."""
    if buffer.has(0):
        hint = buffer[0].text
        if hint[: len(HINT)].lower() == HINT and len(hint) == len(HINT) + 1:
            given = GivenDialect(given.delimiter or hint[-1], given.quote, given.escape)
            buffer.drop(1)
    sample: list[tuple[str, str]] = []
    size = 0
    while len(sample) < SAMPLE_LINES and size < SAMPLE_SIZE and buffer.has(len(sample)):
        line = buffer[len(sample)]
        sample.append((line.text, line.end))
        size += len(line.text)
    return find_dialect(sample, columns, given)


def _read_header(
    file: Path, buffer: _Buffer, dialect: Dialect, columns: tuple[str, ...]
) -> list[str]:
    record, ended, problem = RecordReader(dialect), False, None
    while not ended and record.lines < SAMPLE_LINES and buffer.has(record.lines):
        line = buffer[record.lines]
        problem = problem or line.problem
        ended = record.feed(line.text, line.end)
    buffer.drop(record.lines)
    names = record.fields if ended else []
    wrong = [name for name in columns if names.count(name) != 1]
    if problem or record.broken or wrong:
        wanted = (wrong or [*columns, ""])[0]
        found = f"it has {list_names(names)}" if ended else "a quote in it is not closed"
        raise ConfigError(
            f"{file}: the header must have a column {wanted!r}, and none twice; "
            f"{problem or found} (read with delimiter {dialect.delimiter!r})"
        )
    if len(names) > MAX_COLUMNS:
        raise ConfigError(f"{file} has {len(names)} columns, at most {MAX_COLUMNS} are allowed")
    return _tell_apart(names)


def _tell_apart(names: list[str]) -> list[str]:
    """Column names, none twice: all but the first of a name are numbered."""
    taken = set(names)
    found: dict[str, None] = {}
    for name in names:
        new = name
        if new in found:
            new = next(one for n in itertools.count(2) if (one := f"{name}_{n}") not in taken)
        taken.add(new)
        found[new] = None
    return list(found)


class _Reading:
    """Reads the next record of a buffer, or says why there is none."""

    def __init__(
        self, file: Path, buffer: _Buffer, dialect: Dialect, width: int, limit: int
    ) -> None:
        self._file, self._buffer, self._dialect = file, buffer, dialect
        self._width, self._limit = width, limit
        self._wasted = 0

    def next(self) -> RecordReader | Problem:
        """The record at the beginning of the buffer, which has one; its lines are dropped."""
        buffer, first = self._buffer, self._buffer[0]
        if not first.whole:
            buffer.drop(1)
            return first.problem or self._problem(1, "is not CSV", "not CSV")
        record, ended = self._read(0, self._reach())
        wrong = self._fault(record, ended)
        problems = (buffer[place].problem for place in range(record.lines))
        damaged = next((one for one in problems if one is not None), None)
        count = record.lines
        if wrong and (count > 1 or not ended):
            self._wasted += record.size
            count = self._resume_at(count, ended)
        if damaged and damaged.line < first.number + count:
            found: RecordReader | Problem = self._spread(damaged, count)
        elif wrong:
            found = self._problem(count, wrong, "not CSV")
        else:
            found = record
        buffer.drop(count)
        return found

    def _read(self, place: int, reach: int) -> tuple[RecordReader, bool]:
        """A record, and whether it ends within so many characters."""
        record = RecordReader(self._dialect)
        buffer = self._buffer
        while record.lines < MOST_LINES and buffer.has(place + record.lines):
            line = buffer[place + record.lines]
            if not line.whole or (record.lines and record.size + len(line.text) > reach):
                break
            if record.feed(line.text, line.end):
                return record, True
        return record, False

    def _reach(self) -> int:
        """How far a record is followed: less once much was read again, so time stays linear."""
        spent = self._wasted > 4 * self._limit + 16 * self._buffer.used
        return SHORT if spent else self._limit

    def _fault(self, record: RecordReader, ended: bool) -> str:
        if not ended:
            return "is not CSV: a quote that is opened here is not closed"
        if record.broken:
            line = self._buffer[record.broken - 1].number
            place = "" if record.broken == 1 else f" in line {line}"
            return (
                f"is not CSV: {self._dialect.delimiter!r} or a line end is expected after the "
                f"closing quote{place}"
            )
        if len(record.fields) != self._width:
            return f"has {len(record.fields)} fields, the header has {self._width}"
        return ""

    def _resume_at(self, count: int, ended: bool) -> int:
        """How many lines the bad record costs: up to the next that begins a faultless one."""
        for place in range(1, count):
            if not self._buffer[place].text:
                continue
            record, complete = self._read(place, self._reach())
            if complete and not record.stray and not self._fault(record, complete):
                return place
            if record.lines > 1:
                self._wasted += record.size
        return count

    def _problem(self, count: int, reason: str, kind: str) -> Problem:
        return self._spread(Problem(self._file, self._buffer[0].number, reason, kind), count)

    def _spread(self, problem: Problem, count: int) -> Problem:
        """The same problem with the range of lines that the record takes."""
        if count == 1:
            return problem
        first = self._buffer[0].number
        reason = f"{problem.reason} (the record is lines {first} to {first + count - 1})"
        return Problem(problem.file, problem.line, reason, problem.kind)
