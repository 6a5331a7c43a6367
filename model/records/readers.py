"""Checked examples, one at a time, from a file of any supported format."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from osa.model.errors import ConfigError
from osa.model.records.csv_lines import read_csv
from osa.model.records.fields import Field, check
from osa.model.records.raw_lines import GZIP, read_raw_lines, split_suffix
from osa.model.records.record import MAX_RECORD_BYTES, BadRecord, Item, Problem, Record
from osa.model.records.tables import read_table
from osa.model.records.text_lines import read_objects, read_texts

TEXT = (".txt", ".text")
OBJECTS = (".jsonl", ".ndjson")
CSV = (".csv",)
PARQUET = (".parquet",)
ARROW = (".arrow", ".feather")


def read_file(
    file: Path, fields: tuple[Field, ...], max_record_bytes: int = MAX_RECORD_BYTES
) -> Generator[Item, None, None]:
    """Read and check the examples of a file, in its order and in bounded memory.

    Args:
        file: ``.txt`` or ``.text`` (one text per line, for the one field that is not optional),
            ``.jsonl`` or ``.ndjson``, ``.csv`` with a header, each with ``.gz`` too;
            ``.parquet``; ``.arrow`` or ``.feather`` (file or stream).
        fields: Fields of an example.
        max_record_bytes: Longest line, or value of a table [bytes].

    Yields:
        A ``Record`` of values by field name (see ``fields.check``), a ``Problem`` or a ``Blank``.

    Raises:
        ConfigError: An unknown suffix, fields that the format does not support, or a file that
            cannot be opened.
        DataError: The file is damaged, lacks a column, or is not encoded in UTF-8 at all.
    """
    with contextlib.closing(_items(file, fields, max_record_bytes)) as items:
        for item in items:
            yield _checked(file, fields, item) if isinstance(item, Record) else item


def check_format(file: Path, fields: tuple[Field, ...]) -> tuple[str, bool]:
    """The format of ``file`` by its suffix, and whether it is gzipped.

    Raises:
        ConfigError: See ``read_file``.
    """
    suffix, compressed = split_suffix(file)
    plain = suffix in PARQUET + ARROW and not compressed
    if not plain and suffix not in TEXT + OBJECTS + CSV:
        allowed = f"{', '.join(TEXT + OBJECTS + CSV)} (each with {GZIP} too), "
        allowed += ", ".join(PARQUET + ARROW)
        raise ConfigError(f"{file}: unknown kind of file; allowed are {allowed}")
    if suffix in TEXT:
        _text_field(file, fields)
    if suffix in CSV and any(field.kind == "features" for field in fields):
        raise ConfigError(
            f"{file}: CSV holds texts and numbers, no features: use "
            f"{', '.join((*OBJECTS, *PARQUET, *ARROW))}"
        )
    return suffix, compressed


def _items(file: Path, fields: tuple[Field, ...], limit: int) -> Generator[Item, None, None]:
    suffix, compressed = check_format(file, fields)
    if suffix in TEXT:
        return read_texts(file, _text_field(file, fields), limit, compressed)
    if suffix in OBJECTS:
        return read_objects(file, fields, limit, compressed)
    if suffix in CSV:
        return _read_csv(file, fields, limit, compressed)
    return read_table(file, fields, limit, parquet=suffix in PARQUET)


def _text_field(file: Path, fields: tuple[Field, ...]) -> Field:
    required = [field for field in fields if not field.optional]
    if len(required) != 1 or required[0].kind != "text":
        wanted = ", ".join(f"{field.column} ({field.kind})" for field in required)
        raise ConfigError(
            f"{file}: a text file holds one text a line, needed are {wanted or 'no texts'}: use "
            f"{', '.join((*OBJECTS, *CSV, *PARQUET, *ARROW))}"
        )
    return required[0]


def _read_csv(
    file: Path, fields: tuple[Field, ...], limit: int, compressed: bool
) -> Generator[Item, None, None]:
    """Records of a CSV file; an empty value of an optional field is none, a relevance a number."""
    required = tuple({field.column: None for field in fields if not field.optional})
    for item in read_csv(file, read_raw_lines(file, limit, compressed), limit, required):
        if isinstance(item, Record):
            for field in fields:
                text = item.values.get(field.column)
                if field.optional and not text:
                    item.values[field.column] = None
                elif field.kind == "relevance" and isinstance(text, str):
                    with contextlib.suppress(ValueError):
                        item.values[field.column] = float(text)
        yield item


def _checked(file: Path, fields: tuple[Field, ...], record: Record) -> Record | Problem:
    try:
        values = {field.name: check(field, record.values.get(field.column)) for field in fields}
    except BadRecord as error:
        return Problem(file, record.line, error.reason, error.kind)
    return Record(record.line, values)
