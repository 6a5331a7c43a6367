"""Readers of files with one record per line, plain or gzipped, in bounded memory.

What ends a line is said in ``raw_lines``. U+2028, U+0085 and similar characters are part of a text.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

from osa.model.records.fields import Field, decode, display, list_names
from osa.model.records.raw_lines import Span, read_raw_lines, too_long
from osa.model.records.record import BadRecord, Blank, Item, Problem, Record


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
    file: Path, limit: int, compressed: bool, span: Span | None = None
) -> Generator[tuple[int, str | Problem], None, None]:
    """Every line with its number, without its line end; arguments and errors as ``read_objects``.

    Args:
        file: The file.
        limit: Longest line [bytes].
        compressed: Whether the file is gzipped.
        span: Only its lines.
    """
    for line in read_raw_lines(file, limit, compressed, span):
        yield line.number, _text(file, line.number, line.content, limit)


def read_objects(
    file: Path,
    fields: tuple[Field, ...],
    limit: int,
    compressed: bool,
    span: Span | None = None,
) -> Generator[Item, None, None]:
    """One JSON object per line, by column.

    Args:
        file: The file.
        fields: Fields whose columns are required, unless they are optional.
        limit: Longest line [bytes].
        compressed: Whether the file is gzipped.
        span: Only its lines, which are counted from its beginning.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: The file is damaged, or in UTF-16 or UTF-32.
    """
    for line, text in _texts(file, limit, compressed, span):
        if not isinstance(text, str):
            yield text
            continue
        try:
            yield Record(line, _object(text, fields), len(text))
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


def _texts(
    file: Path, limit: int, compressed: bool, span: Span | None = None
) -> Iterator[tuple[int, str | Problem | Blank]]:
    for line, text in read_lines(file, limit, compressed, span):
        if isinstance(text, str):
            yield line, text.strip() or Blank(line)
        else:
            yield line, text


def _text(file: Path, line: int, raw: bytes | int, limit: int) -> str | Problem:
    if isinstance(raw, int):
        return too_long(file, line, raw, limit)
    try:
        return decode(raw)
    except BadRecord as error:
        return Problem(file, line, error.reason, error.kind)
