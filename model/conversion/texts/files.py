"""Texts, or pairs of them, in a request's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osa.model.common.progress import say
from osa.model.errors import ConfigError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import Record

MOST, MOST_CHARACTERS = 200_000, 16_384
"""Of all files, and of one text [characters]: what is beyond is not read."""
BUDGETS = (32, 64, 128, 256, 512)
"""Longest pieces, or pairs, that are made of them, at random [tokens]."""


def read_distinct(
    files: Sequence[Path], fields: tuple[Field, ...], what: str
) -> list[tuple[str, ...]]:
    """The values of records, distinct and in their order.

    Args:
        files: The files.
        fields: Texts of a record.
        what: Name of a record, for messages.

    Raises:
        ConfigError: There are none.
        DataError: A file cannot be read.
    """
    seen: dict[tuple[str, ...], None] = {}
    skipped = 0
    for file in files:
        for item in read_file(file, fields):
            if isinstance(item, Record):
                values = (item.values[field.name][:MOST_CHARACTERS] for field in fields)
                seen.setdefault(tuple(values))
            else:
                skipped += 1
            if len(seen) >= MOST:
                say(f"reading stops at {MOST} {what}s")
                return list(seen)
    if skipped:
        say(f"{skipped} records hold no {what} and are left out")
    if not seen:
        raise ConfigError(f"the files hold no {what}s")
    return list(seen)
