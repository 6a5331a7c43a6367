r"""Readers of files with one record per line, plain or gzipped, in bounded memory.

Only ``\n`` and ``\r\n`` end a line: U+2028, U+0085 and similar characters are part of a text.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from io import BufferedReader
from pathlib import Path

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import Field, decode, display, list_names
from osa.model.records.record import BadRecord, Blank, Item, Problem, Record

CHUNK = 1 << 16
WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_texts(
    file: Path, field: Field, limit: int, compressed: bool
) -> Generator[Item, None, None]:
    """One text per line, as the column of ``field``.

    Args:
        file: The file.
        field: The field of the texts.
        limit: Longest line [bytes].
        compressed: Whether the file is gzipped.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: The file is damaged, or in UTF-16 or UTF-32.
    """
    for line, text in _texts(file, limit, compressed):
        yield Record(line, {field.column: text}) if isinstance(text, str) else text


def read_lines(
    file: Path, limit: int, compressed: bool
) -> Generator[tuple[int, str | Problem], None, None]:
    """Every line with its number, without its line end; raises like ``read_objects``."""
    line = 0
    try:
        with _open(file, compressed) as stream:
            _refuse_wide(file, stream)
            for line, raw in enumerate(_lines(stream, limit), start=1):
                yield line, _text(file, line, raw, limit)
    except (EOFError, zlib.error, OSError) as error:
        kind = "gzip " if compressed else ""
        raise DataError(f"{file}: damaged {kind}file after line {line}: {error}") from error


def read_objects(
    file: Path, fields: tuple[Field, ...], limit: int, compressed: bool
) -> Generator[Item, None, None]:
    """One JSON object per line, by column.

    Args:
        file: The file.
        fields: Fields whose columns are required, unless they are optional.
        limit: Longest line [bytes].
        compressed: Whether the file is gzipped.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: The file is damaged, or in UTF-16 or UTF-32.
    """
    for line, text in _texts(file, limit, compressed):
        if not isinstance(text, str):
            yield text
            continue
        try:
            yield Record(line, _object(text, fields))
        except BadRecord as error:
            yield Problem(file, line, error.reason, error.kind)


def _object(text: str, fields: tuple[Field, ...]) -> dict[str, object]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at character {error.pos + 1}"
        raise BadRecord("not JSON", reason) from None
    except (ValueError, RecursionError) as error:  # too many digits, too deep
        raise BadRecord("not JSON", f"is not JSON that can be read: {error}") from None
    if not isinstance(values, dict):
        raise BadRecord("not JSON", f"must be a JSON object, got {display(values)}")
    for field in fields:
        if field.column not in values and not field.optional:
            raise BadRecord(
                "missing", f"has no column {field.column!r}; it has {list_names(values)}"
            )
    return values


def _texts(file: Path, limit: int, compressed: bool) -> Iterator[tuple[int, str | Problem | Blank]]:
    for line, text in read_lines(file, limit, compressed):
        if isinstance(text, str):
            yield line, text.strip() or Blank(line)
        else:
            yield line, text


def _text(file: Path, line: int, raw: bytes | int, limit: int) -> str | Problem:
    if isinstance(raw, int):
        reason = f"{raw} bytes, longer than max_record_bytes ({limit})"
        return Problem(file, line, reason, "too long")
    try:
        return decode(raw)
    except BadRecord as error:
        return Problem(file, line, error.reason, error.kind)


def _open(file: Path, compressed: bool) -> BufferedReader | gzip.GzipFile:
    try:
        return gzip.GzipFile(file, "rb") if compressed else file.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _refuse_wide(file: Path, stream: BufferedReader | gzip.GzipFile) -> None:
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


def _lines(stream: BufferedReader | gzip.GzipFile, limit: int) -> Iterator[bytes | int]:
    """Each line without its line end; for one longer than ``limit``, its length [bytes]."""
    mark = codecs.BOM_UTF8
    while raw := stream.readline(limit + len(codecs.BOM_UTF8) + 2):
        ended = raw.endswith(b"\n")
        raw, mark = raw.removeprefix(mark), b""
        content = raw.removesuffix(b"\n").removesuffix(b"\r") if ended else raw
        if len(content) <= limit:
            yield content
            continue
        length = len(raw)
        while not ended and (raw := stream.readline(CHUNK)):
            length, ended = length + len(raw), raw.endswith(b"\n")
        yield length - ended
