r"""Lines of a file as bytes, plain or gzipped, in bounded memory.

One rule for every format: ``\n`` and ``\r\n`` end a line; where a file's first MiB has ``\r`` and
no ``\n``, as old exports of Macintosh programs have, ``\r`` does too. Nothing else ends a line.
"""

from __future__ import annotations

import codecs
import gzip
import itertools
import re
import zlib
from collections.abc import Generator, Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.paths import open_binary
from osa.model.records.record import Problem

GZIP = ".gz"
CHUNK = 1 << 16
HEAD = 1 << 20
"""How far a file is searched for its first line end [bytes]."""
WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
LINE_END, ANY_END = re.compile(rb"(\r?\n)"), re.compile(rb"(\r\n|\r|\n)")
Stream = BufferedReader | gzip.GzipFile


class RawLine(NamedTuple):
    r"""A line of a file.

    Attributes:
        number: Its number, from 1.
        content: What it holds; of a line that is too long its length [bytes].
        end: What ends it: ``\n``, ``\r\n`` or ``\r``; nothing at the end of the file.
    """

    number: int
    content: bytes | int
    end: bytes


class Span(NamedTuple):
    r"""A piece of a file whose lines end with ``\n``: the lines that begin in it.

    Attributes:
        start: First byte.
        stop: First byte after it.
    """

    start: int
    stop: int


def split_suffix(file: Path) -> tuple[str, bool]:
    """The suffix that says what a file holds, in small letters, and whether it is gzipped."""
    name = file.name.lower()
    return Path(name.removesuffix(GZIP)).suffix, name.endswith(GZIP)


def read_raw_lines(
    file: Path, limit: int, compressed: bool, span: Span | None = None
) -> Generator[RawLine, None, None]:
    """The lines of a file, without a byte order mark.

    Args:
        file: The file.
        limit: Longest line [bytes].
        compressed: Whether the file is gzipped.
        span: Only its lines, which are counted from its beginning.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: The file is damaged, or in UTF-16 or UTF-32.
    """
    line = 0
    try:
        with _open(file, compressed) as stream:
            if span is None:
                _refuse_wide(file, stream)
                lines = _lines(stream, limit)
            else:
                lines = _lines_within(stream, limit, span)
            for line, (content, end) in enumerate(lines, start=1):
                yield RawLine(line, content, end)
    except (EOFError, zlib.error, OSError) as error:
        kind = "gzip " if compressed else ""
        raise DataError(f"{file}: damaged {kind}file after line {line}: {error}") from error


def can_be_split(file: Path) -> bool:
    r"""Whether the first MiB of a file shows that ``\n`` ends its lines.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: It is damaged, or in UTF-16 or UTF-32.
    """
    try:
        with _open(file, compressed=False) as stream:
            _refuse_wide(file, stream)
            return b"\n" in stream.read(HEAD)
    except OSError as error:
        raise DataError(f"{file}: damaged file after line 0: {error}") from error


def lines_before(file: Path, start: int) -> int:
    """How many lines of a file that can be split begin before a byte; reads up to there.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: It is damaged.
    """
    if not start:
        return 0
    count = left = 0
    try:
        with _open(file, compressed=False) as stream:
            left = start - 1  # a line that ends with the byte before begins there
            while left and (part := stream.read(min(left, HEAD))):
                count += part.count(b"\n")
                left -= len(part)
    except OSError as error:
        raise DataError(f"{file}: damaged file after line {count}: {error}") from error
    return count + 1


def too_long(file: Path, line: int, size: int, limit: int) -> Problem:
    """The problem of a line that is too long.

    Args:
        file: The file.
        line: Its number.
        size: Its length [bytes].
        limit: What is allowed [bytes].
    """
    reason = f"{size} bytes, longer than max_record_bytes ({limit})"
    return Problem(file, line, reason, "too long")


def _open(file: Path, compressed: bool) -> Stream:
    try:
        stream = open_binary(file)
        return _Gzip(stream) if compressed else stream
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


class _Gzip(gzip.GzipFile):
    """A gzipped stream that is closed with what it reads."""

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._stream = stream

    def close(self) -> None:
        super().close()
        self._stream.close()


def _refuse_wide(file: Path, stream: Stream) -> None:
    """Refuse UTF-16 and UTF-32, known by a byte order mark or by NUL in every other byte."""
    head: bytes = stream.peek(1024)[:1024]
    pairs = len(head) // 2
    even, odd = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    alternating = pairs >= 4 and max(even, odd) > 0.7 * pairs and min(even, odd) < 0.1 * pairs
    if alternating or head.startswith(WIDE_BOMS):
        raise DataError(
            f"{file} is in UTF-16 or UTF-32, UTF-8 is expected: convert it, for example with "
            "iconv -f UTF-16 -t UTF-8"
        )


def _lines(stream: Stream, limit: int) -> Iterator[tuple[bytes | int, bytes]]:
    """Each line and its end; for one longer than ``limit``, its length [bytes]."""
    data = stream.read1(CHUNK)
    while len(data) < HEAD and b"\n" not in data and (more := stream.read1(CHUNK)):
        data += more
    pattern = ANY_END if b"\r" in data and b"\n" not in data else LINE_END
    return _divide(
        itertools.chain((data.removeprefix(codecs.BOM_UTF8),), _parts(stream)), limit, pattern
    )


def _lines_within(stream: Stream, limit: int, span: Span) -> Iterator[tuple[bytes | int, bytes]]:
    """Each line that begins in the span, and its end; as ``_lines``."""
    place, mark, rest = 0, 0, b""
    if span.start:
        place = span.start - 1  # a line begins at the start where one ends just before
        stream.seek(place)
        while not (after := rest.find(b"\n") + 1):
            place += len(rest)
            rest = stream.read1(CHUNK)
            if not rest or place >= span.stop:
                return
        place, rest = place + after, rest[after:]
    else:
        rest = stream.read1(CHUNK)
        mark = len(codecs.BOM_UTF8) if rest.startswith(codecs.BOM_UTF8) else 0
        rest = rest[mark:]  # part of the first line, for its place
    for content, end in _divide(itertools.chain((rest,), _parts(stream)), limit, LINE_END):
        if place >= span.stop:
            return
        yield content, end
        place += mark + (content if isinstance(content, int) else len(content)) + len(end)
        mark = 0


def _divide(
    parts: Iterator[bytes], limit: int, pattern: re.Pattern[bytes]
) -> Iterator[tuple[bytes | int, bytes]]:
    held: list[bytes] = []
    length = 0
    for part in _whole_ends(parts):
        pieces = pattern.split(part)
        for place, piece in enumerate(pieces[::2]):
            held.append(piece)
            length += len(piece)
            if 2 * place + 1 < len(pieces):
                whole = piece if len(held) == 1 else b"".join(held)
                yield length if length > limit else whole, pieces[2 * place + 1]
                held, length = [], 0
            elif length > limit:
                held = []
    if length:
        yield length if length > limit else b"".join(held), b""


def _parts(stream: Stream) -> Iterator[bytes]:
    while part := stream.read1(CHUNK):
        yield part


def _whole_ends(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes; a carriage return comes with what follows it."""
    half = b""
    for part in parts:
        whole = half + part
        half = b"\r" if whole.endswith(b"\r") else b""
        yield whole.removesuffix(half)
    yield half
