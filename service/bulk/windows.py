"""Records on their way: chunks of a file, and windows of chunks, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from osa.model.records.fields import display
from osa.model.records.record import BadRecord, Problem

CHUNK_ROWS, CHUNK_BYTES = 1024, 1 << 20
"""A chunk is closed at either [records, characters of text]."""
WINDOW_CHARACTERS = 8 << 20
"""A window is closed at so much text at the latest [characters]."""


@dataclass
class Chunk:
    """Consecutive records of a file.

    Attributes:
        rows: Every column of the good ones [n].
        texts: Their texts [n].
        lines: Their lines or rows in the file, from 1 [n].
        file: The file.
        problems: The bad ones.
    """

    rows: pa.RecordBatch
    texts: list[str]
    lines: list[int]
    file: Path
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Window:
    """Consecutive records of the input: what is sorted by length, and one row group of the output.

    Attributes:
        rows: Every column of the good ones [n].
        texts: Their texts [n].
        places: File and line of each [n].
        problems: The bad ones among them.
    """

    rows: pa.Table
    texts: list[str]
    places: list[tuple[Path, int]]
    problems: list[Problem]


class Source(Protocol):
    """One input file."""

    file: Path

    def schema(self) -> pa.Schema:
        """Its columns, the text's included."""

    def chunks(self, schema: pa.Schema, chunk_rows: int) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, so many at a time at most."""


def check_text(value: Any, column: str) -> str:
    """A text that the server would take.

    Raises:
        BadRecord: Null, not a string, or empty.
    """
    if value is None or value == "":
        found = "null" if value is None else "empty"
        raise BadRecord("empty text", f"column {column!r} is {found}")
    if not isinstance(value, str):
        raise BadRecord("wrong type", f"column {column!r} must be a string, got {display(value)}")
    return value


def gather_windows(chunks: Iterator[Chunk], schema: pa.Schema, rows: int) -> Iterator[Window]:
    """Windows of at least ``rows`` good records, or of much text; a pure function of the input."""
    held: list[Chunk] = []
    count = characters = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk.texts)
        characters += sum(map(len, chunk.texts))
        if count >= rows or characters >= WINDOW_CHARACTERS:
            yield _join(held, schema)
            held, count, characters = [], 0, 0
    if held:
        yield _join(held, schema)


def _join(chunks: list[Chunk], schema: pa.Schema) -> Window:
    return Window(
        pa.Table.from_batches([chunk.rows for chunk in chunks], schema).combine_chunks(),
        [text for chunk in chunks for text in chunk.texts],
        [(chunk.file, line) for chunk in chunks for line in chunk.lines],
        [problem for chunk in chunks for problem in chunk.problems],
    )
