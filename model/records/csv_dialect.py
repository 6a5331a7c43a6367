"""One record of CSV in any dialect, fed line by line, and which dialect a file is in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

DELIMITERS = (",", ";", "\t", "|")
QUOTES = ('"', "'")
ESCAPES = (None, "\\")
State = Literal["start", "plain", "quoted", "closed"]
DONE, MORE = -1, -2
"""Instead of a place in a line: the record ends with it; it goes on in the next."""
CUT = 20
"""Lines of a record that may be cut off by the end of the sample."""


@dataclass(frozen=True)
class Dialect:
    """How fields are written.

    Attributes:
        delimiter: Stands between fields.
        quote: Stands around fields; twice, it is itself. None: an ordinary character.
        escape: Before a quote, a delimiter, a line end or itself, makes it part of the field;
            before anything else, and where None, an ordinary character.
        skip_space: Whether spaces after a delimiter are no part of the field.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    skip_space: bool = False

    @cached_property
    def plain_marks(self) -> re.Pattern[str]:
        """What matters in a field without quotes."""
        return _pattern(self.delimiter, self.escape)

    @cached_property
    def quoted_marks(self) -> re.Pattern[str]:
        """What matters between quotes."""
        return _pattern(self.quote, self.escape)

    @cached_property
    def escaped(self) -> frozenset[str]:
        """What an escape may stand before."""
        marks = (self.quote, self.escape, self.delimiter, "\r", "\n")
        return frozenset(mark for mark in marks if mark)


@dataclass(frozen=True)
class GivenDialect:
    """What is known of a dialect; None is found out from the first records.

    Attributes:
        delimiter: See ``Dialect``.
        quote: See ``Dialect``; an empty string for none.
        escape: See ``Dialect``; an empty string for none.
    """

    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None

    def candidates(self) -> list[Dialect]:
        """Every dialect that it may be, the usual ones first."""
        delimiters = DELIMITERS if self.delimiter is None else (self.delimiter,)
        quotes = QUOTES if self.quote is None else (self.quote or None,)
        escapes = ESCAPES if self.escape is None else (self.escape or None,)
        spaces = (False, True)
        found = itertools.product(spaces, escapes, quotes, delimiters)
        return [Dialect(mark, quote, escape, skip) for skip, escape, quote, mark in found]


class RecordReader:
    """Reads one record; what it has found so far.

    Attributes:
        fields: Whole fields.
        lines: How many lines it has been fed.
        size: Their length [characters].
        broken: Number of the line, from 1 within the record, on which a closing quote is followed
            by something else than a delimiter; 0 for none.
        stray: Whether there is a quote within a field without quotes.
        quoted: How many fields have quotes around them.
        doubled: How many quotes within them are doubled.
    """

    def __init__(self, dialect: Dialect) -> None:
        """Begin a record."""
        self._dialect = dialect
        self.fields: list[str] = []
        self._pieces: list[str] = []
        self._state: State = "start"
        self.lines = self.size = self.broken = self.quoted = self.doubled = 0
        self.stray = False

    def feed(self, text: str, end: str) -> bool:
        """Read a line and its end; whether the record ends with it."""
        self.lines += 1
        self.size += len(text) + len(end)
        dialect = self._dialect
        if self.lines == 1 and not _has(text, dialect.quote) and not _has(text, dialect.escape):
            self.fields = text.split(dialect.delimiter)
            if dialect.skip_space:
                self.fields = [field.lstrip(" ") for field in self.fields]
            return True
        place = 0
        while place >= 0:
            if self._state == "start":
                place = self._open(text, place)
            elif self._state == "plain":
                place = self._read_plain(text, place, end)
            elif self._state == "quoted":
                place = self._read_quoted(text, place, end)
            else:
                place = self._read_closed(text, place)
        return place == DONE

    def _open(self, text: str, place: int) -> int:
        if self._dialect.skip_space:
            place = _after_spaces(text, place)
        quote = self._dialect.quote
        quoted = quote is not None and text.startswith(quote, place)
        self._state = "quoted" if quoted else "plain"
        return place + quoted

    def _read_plain(self, text: str, place: int, end: str) -> int:
        """Read up to a delimiter, an escape or the end; where to go on, or ``DONE`` or ``MORE``."""
        found = self._dialect.plain_marks.search(text, place)
        stop = len(text) if found is None else found.start()
        piece = text[place:stop]
        self._pieces.append(piece)
        self.stray = self.stray or _has(piece, self._dialect.quote)
        if found is not None and found.group() == self._dialect.escape:
            return self._unescape(text, stop, end)
        self._close()
        return DONE if found is None else stop + 1

    def _read_quoted(self, text: str, place: int, end: str) -> int:
        """Read up to a quote or an escape; where to go on, or ``MORE``."""
        found = self._dialect.quoted_marks.search(text, place)
        stop = len(text) if found is None else found.start()
        self._pieces.append(text[place:stop])
        if found is None:
            self._pieces.append(end)
            return MORE
        if found.group() == self._dialect.escape:
            return self._unescape(text, stop, end)
        if text.startswith(found.group(), stop + 1):
            self._pieces.append(found.group())
            self.doubled += 1
            return stop + 2
        self._state = "closed"
        return stop + 1

    def _read_closed(self, text: str, place: int) -> int:
        """Read what follows a closing quote; where to go on, or ``DONE``."""
        rest = _after_spaces(text, place) if self._dialect.skip_space else place
        ended = rest == len(text)
        if ended or text.startswith(self._dialect.delimiter, rest):
            self.quoted += 1
            self._close()
            return DONE if ended else rest + 1
        self.broken = self.broken or self.lines
        self._state = "plain"  # as csv goes on: so the record ends somewhere
        return place

    def _unescape(self, text: str, place: int, end: str) -> int:
        """Read an escape and what it stands before; where to go on, or ``MORE``."""
        following = text[place + 1 : place + 2]
        if not following:
            self._pieces.append(end)
            return MORE
        known = following in self._dialect.escaped
        self._pieces.append(following if known else text[place : place + 2])
        return place + 2

    def _close(self) -> None:
        self.fields.append("".join(self._pieces))
        self._pieces = []
        self._state = "start"


def find_dialect(
    lines: Sequence[tuple[str, str]], columns: Iterable[str], given: GivenDialect
) -> Dialect:
    """The dialect in which the first lines make most sense.

    Args:
        lines: The header and what follows it, with their ends.
        columns: Names that the header has.
        given: What is known.

    Returns:
        Of those in which the header has all columns, the one with the fewest records that have
        another number of fields, or quotes at odd places; of equals the more usual one. What is
        unusual must show: one bad record does not change how the others are read. Where the header
        has them in none, of those in which it has several columns.
    """
    candidates = given.candidates()
    wanted = set(columns)
    headers = {dialect: _read(lines, 0, dialect)[0].fields for dialect in candidates}
    fitting = [dialect for dialect in candidates if wanted <= set(headers[dialect])]
    if not fitting:  # the header is refused, by the names that it has in the likeliest dialect
        fitting = [dialect for dialect in candidates if len(headers[dialect]) > 1]
    if all(len(headers[dialect]) == 1 for dialect in fitting):  # no delimiter to be found
        fitting = [dialect for dialect in fitting if dialect.delimiter == candidates[0].delimiter]
    tallies = {dialect: _tally(lines, dialect, len(headers[dialect])) for dialect in fitting}
    shown = [
        dialect
        for dialect, tally in tallies.items()
        if not _is_hidden(dialect, tally, tallies, lines[0][0] if lines else "")
    ]
    return min(shown, key=lambda one: tallies[one][:2], default=(fitting or candidates)[0])


class _Tally(NamedTuple):
    """Records of a sample: bad ones, those with odd quotes; quoted fields, doubled quotes."""

    bad: int
    stray: int
    quoted: int
    doubled: int


def _is_hidden(
    dialect: Dialect, tally: _Tally, tallies: Mapping[Dialect, _Tally], header: str
) -> bool:
    """Whether nothing in the sample shows that a dialect is as unusual as it is."""
    usual = tallies.get(replace(dialect, quote=QUOTES[0]))
    if dialect.quote == QUOTES[1] and usual is not None and tally.quoted <= usual.quoted:
        return True
    usual = tallies.get(replace(dialect, escape=None))
    if dialect.escape is not None and usual is not None and usual.doubled:
        return True
    usual = tallies.get(replace(dialect, skip_space=False))
    delimiters = header.count(dialect.delimiter)
    spaced = 0 < delimiters == header.count(dialect.delimiter + " ")
    return dialect.skip_space and usual is not None and not spaced


def _tally(lines: Sequence[tuple[str, str]], dialect: Dialect, width: int) -> _Tally:
    place = bad = stray = quoted = doubled = 0
    while place < len(lines):
        record, complete = _read(lines, place, dialect)
        if not complete and len(lines) - place <= CUT:
            break
        good = complete and not record.broken and len(record.fields) == width
        bad += not good and bool(lines[place][0])
        stray += good and record.stray
        quoted += record.quoted
        doubled += record.doubled
        place += record.lines if good else 1
    return _Tally(bad, stray, quoted, doubled)


def _read(
    lines: Sequence[tuple[str, str]], place: int, dialect: Dialect
) -> tuple[RecordReader, bool]:
    """The record at a place, and whether it ends within the lines."""
    record = RecordReader(dialect)
    rest = itertools.islice(lines, place, None)
    return record, any(record.feed(text, end) for text, end in rest)


def _pattern(*marks: str | None) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(mark) for mark in marks if mark) or r"(?!)")


def _after_spaces(text: str, place: int) -> int:
    while text.startswith(" ", place):
        place += 1
    return place


def _has(text: str, mark: str | None) -> bool:
    return mark is not None and mark in text
