"""Records on their way: chunks of a file, and windows of chunks, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from osa.model.records.record import Problem
from osa.service.bulk.inputs.input_column import size_of

CHUNK_ROWS, CHUNK_BYTES = 1024, 8 << 20
"""A chunk is closed at either [records, bytes]."""
WINDOW_BYTES = 64 << 20
"""Default of how large a window's columns may be [bytes]."""
WINDOW_INPUT = 8 << 20
"""A window is closed at so much input at the latest [characters or numbers]."""
WINDOW_PROBLEMS = 1 << 16
"""A window is closed at so many bad records at the latest."""


@dataclass(frozen=True)
class WindowLimits:
    """When a window is closed: at either limit, with the chunk that reaches it.

    Attributes:
        rows: Good records.
        size: Their columns, and their input [bytes; characters or numbers].
    """

    rows: int = 8192
    size: int = WINDOW_BYTES

    @property
    def chunk_rows(self) -> int:
        """Most records of a chunk."""
        return min(CHUNK_ROWS, self.rows)

    @property
    def chunk_size(self) -> int:
        """About how large a chunk may be [bytes]."""
        return max(1, min(CHUNK_BYTES, self.size // 8))


@dataclass(frozen=True)
class Piece:
    """Consecutive records of a file.

    Attributes:
        start: First byte, or row group, of it.
        stop: First one after it.
        size: About how much it holds [bytes].
        whole: Whether it is the whole file.
    """

    start: int
    stop: int
    size: int
    whole: bool = False


@dataclass
class Chunk:
    """Consecutive records of a file.

    Attributes:
        rows: Every column of the good ones [n].
        inputs: Their texts or features [n].
        lines: Their lines or rows in the file, from 1 [n].
        file: The file.
        size: Of the columns [bytes].
        problems: The bad ones.
    """

    rows: pa.RecordBatch
    inputs: list[str | np.ndarray]
    lines: list[int]
    file: Path
    size: int
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
    """One input file, and by what it is known in notes."""

    file: Path
    name: str

    def schema(self) -> pa.Schema:
        """Its columns, that of the inputs included."""

    @property
    def is_lasting(self) -> bool:
        """Whether it can be read again."""

    def pieces(self, size: int) -> list[Piece]:
        """All of it in pieces of about ``size`` bytes, in order."""

    def lines_before(self, piece: Piece) -> int:
        """What to add to the line of a record of a piece, for messages."""

    def chunks(
        self, schema: pa.Schema, limits: WindowLimits, piece: Piece | None = None
    ) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, in chunks within the limits.

        Lines are counted from the beginning of the piece.
        """


def gather_windows(
    chunks: Iterator[Chunk], schema: pa.Schema, limits: WindowLimits
) -> Iterator[Window]:
    """Windows of many records, or of large ones; a pure function of the input."""
    held: list[Chunk] = []
    count = size = length = bad = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk.inputs)
        size += chunk.size
        length += sum(map(size_of, chunk.inputs))
        bad += len(chunk.problems)
        full = count >= limits.rows or size >= limits.size or bad >= WINDOW_PROBLEMS
        if full or length >= min(limits.size, WINDOW_INPUT):
            yield _join(held, schema)
            held, count, size, length, bad = [], 0, 0, 0, 0
    if held:
        yield _join(held, schema)


def _join(chunks: list[Chunk], schema: pa.Schema) -> Window:
    return Window(
        pa.Table.from_batches([chunk.rows for chunk in chunks], schema).combine_chunks(),
        [value for chunk in chunks for value in chunk.inputs],
        [(chunk.file, line) for chunk in chunks for line in chunk.lines],
        [problem for chunk in chunks for problem in chunk.problems],
    )


def rows_at(rows: pa.Table, places: Sequence[int]) -> pa.Table:
    """Rows of ascending places; by slices, since not every type of column can be gathered."""
    parts = []
    begun = 0
    for turn, place in enumerate(places):
        if turn + 1 == len(places) or places[turn + 1] != place + 1:
            parts.append(rows.slice(places[begun], turn + 1 - begun))
            begun = turn + 1
    return pa.concat_tables(parts) if parts else rows.slice(0, 0)
