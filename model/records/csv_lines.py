"""Reader of CSV with a header, from decoded lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from osa.model.errors import ConfigError
from osa.model.records.fields import list_names
from osa.model.records.record import Problem, Record

LONGEST = 16 << 20
"""Longest field [characters]."""


def read_csv(
    file: Path, lines: Iterator[tuple[int, str | Problem]], *columns: str
) -> Iterator[Record | Problem]:
    """Records of a CSV file, whose values are all text.

    Args:
        file: Name for messages.
        lines: Numbered lines, of ``text_lines.read_lines``.
        *columns: Columns that the header must have.

    Raises:
        ConfigError: The header is missing, lacks a column, or has a name twice.
    """
    line = 0
    damaged: Problem | None = None

    def feed() -> Iterator[str]:
        """Lines up to one that cannot be decoded, which also ends the current record."""
        nonlocal line, damaged
        for number, text in lines:
            line = number
            if isinstance(text, Problem):
                damaged = text
                return
            yield text + "\n"

    csv.field_size_limit(LONGEST)
    reader = csv.reader(feed(), strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise ConfigError(f"{file}: the header is not CSV: {damaged or error}") from error
    missing = next((name for name in columns if name not in header), None)
    if damaged or missing is not None or len(set(header)) < len(header):
        wanted = columns[0] if missing is None else missing
        raise ConfigError(
            f"{file}: the header must have a column {wanted!r}, and none twice; "
            f"{damaged or f'it has {list_names(header)}'}"
        )
    while True:
        first = line + 1
        try:
            values = next(reader, None)
            problem = None
        except csv.Error as error:
            values = []
            problem = Problem(file, first, f"is not CSV: {error}", "not CSV")
        if damaged:
            yield damaged
            damaged, reader = None, csv.reader(feed(), strict=True)
        elif problem:
            yield problem
        elif values is None:
            return
        elif values and len(values) != len(header):
            reason = f"has {len(values)} fields, the header has {len(header)}"
            yield Problem(file, first, reason, "not CSV")
        elif values:  # a blank line is skipped
            yield Record(first, dict(zip(header, values, strict=True)))
