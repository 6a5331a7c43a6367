"""Records on their way: chunks of a file, and windows of chunks, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from osa.model.records.record import Problem
from osa.service.bulk.input_column import size_of

CHUNK_ROWS, CHUNK_BYTES = 1024, 1 << 20
"""A chunk is closed at either [records, characters of text or numbers of features]."""
WINDOW_SIZE = 8 << 20
"""A window is closed at so much input at the latest [characters or numbers]."""


@dataclass
class Chunk:
    """Consecutive records of a file.

    Attributes:
        rows: Every column of the good ones [n].
        inputs: Their texts or features [n].
        lines: Their lines or rows in the file, from 1 [n].
        file: The file.
        problems: The bad ones.
    """

    rows: pa.RecordBatch
    inputs: list[str | np.ndarray]
    lines: list[int]
    file: Path
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Window:
    """Consecutive records of the input: what is sorted by length, and one row group of the output.

    Attributes:
        rows: Every column of the good ones [n].
        inputs: Their texts or features [n].
        places: File and line of each [n].
        problems: The bad ones among them.
    """

    rows: pa.Table
    inputs: list[str | np.ndarray]
    places: list[tuple[Path, int]]
    problems: list[Problem]


class Source(Protocol):
    """One input file."""

    file: Path

    def schema(self) -> pa.Schema:
        """Its columns, that of the inputs included."""

    def chunks(self, schema: pa.Schema, chunk_rows: int) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, so many at a time at most."""


def gather_windows(chunks: Iterator[Chunk], schema: pa.Schema, rows: int) -> Iterator[Window]:
    """Windows of at least ``rows`` good records, or of much input; a pure function of the input."""
    held: list[Chunk] = []
    count = size = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk.inputs)
        size += sum(map(size_of, chunk.inputs))
        if count >= rows or size >= WINDOW_SIZE:
            yield _join(held, schema)
            held, count, size = [], 0, 0
    if held:
        yield _join(held, schema)


def _join(chunks: list[Chunk], schema: pa.Schema) -> Window:
    return Window(
        pa.Table.from_batches([chunk.rows for chunk in chunks], schema).combine_chunks(),
        [value for chunk in chunks for value in chunk.inputs],
        [(chunk.file, line) for chunk in chunks for line in chunk.lines],
        [problem for chunk in chunks for problem in chunk.problems],
    )
