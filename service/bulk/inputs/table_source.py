"""Parquet: columns go through as they are, whatever their types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError, OsaError, first_line
from osa.model.records.errors import DataError
from osa.model.records.fields import decode
from osa.model.records.record import MAX_COLUMNS, BadRecord, Problem
from osa.model.records.table_batches import open_parquet, parquet_batches
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.input_files import InputFile
from osa.service.bulk.windows import Chunk, Piece, WindowLimits, rows_at

TEXT_TESTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
NUMBER_TESTS = (pa.types.is_floating, pa.types.is_integer)
LIST_TESTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
READING = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError)
"""What pyarrow raises where a file is not what it says."""


class TableSource:
    """Rows of a Parquet file.

    Attributes:
        file: The file.
        name: By what it is known in notes.
    """

    def __init__(self, file: InputFile, column: InputColumn) -> None:
        """Take a file whose inputs are in ``column``."""
        self.file, self.name, self._column = file.path, file.name, column
        self._partition = file.partition

    @property
    def is_lasting(self) -> bool:
        """Whether it can be read again: a table needs it."""
        return True

    def schema(self) -> pa.Schema:
        """Its columns, those of its path last.

        Raises:
            ConfigError: The file cannot be opened, has columns that the output cannot have, or the
                column of the inputs is of another type.
            DataError: It is no Parquet file.
        """
        with self._reading("is no Parquet file"), open_parquet(self.file) as table:
            schema = table.schema_arrow
            names = schema.names
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice or len(names) > MAX_COLUMNS:
            found = f"several columns {twice[0]!r}" if twice else f"{len(names)} columns"
            raise ConfigError(
                f"{self.file} has {found}; allowed are {MAX_COLUMNS}, each with a name of its own"
            )
        for name in self._partition:
            if name in names:
                raise ConfigError(f"{self.file}: path and file both have a column {name!r}")
            schema = schema.append(pa.field(name, pa.string()))
        for field in schema:
            if field.name == self._column.name and not self._fits(field.type):
                wanted = "strings" if self._column.kind == "text" else "lists of lists of numbers"
                raise ConfigError(
                    f"{self.file}: column {field.name!r} must hold {wanted}, got {field.type}"
                )
        try:
            pq.write_table(schema.empty_table(), pa.BufferOutputStream())
        except pa.ArrowException as error:
            raise ConfigError(f"{self.file}: {first_line(error)}") from error
        return schema

    def pieces(self, size: int) -> list[Piece]:
        """Row groups, in order, about ``size`` bytes together; all rows of the file."""
        with self._reading("is no Parquet file"), open_parquet(self.file) as table:
            about = table.metadata
            stored = [about.row_group(n).total_byte_size for n in range(about.num_row_groups)]
        found: list[Piece] = []
        start = held = 0
        for group, more in enumerate(stored):
            held += max(0, more)
            if held >= size or group + 1 == len(stored):
                found.append(Piece(start, group + 1, held))
                start, held = group + 1, 0
        return found

    def chunks(
        self, schema: pa.Schema, limits: WindowLimits, piece: Piece | None = None
    ) -> Iterator[Chunk]:
        """Its rows, in order, with the columns of ``schema``, in chunks within the limits.

        Raises:
            DataError: The file is damaged.
        """
        row = 0
        groups = None if piece is None else range(piece.start, piece.stop)
        with self._reading("is damaged") as place, open_parquet(self.file) as table:
            if piece is not None:
                row = sum(table.metadata.row_group(n).num_rows for n in range(piece.start))
            batches = parquet_batches(table, None, limits.chunk_rows, limits.chunk_size, groups)
            for batch, size in batches:
                told = [
                    pa.array([value] * batch.num_rows, pa.string())
                    for value in self._partition.values()
                ]
                chosen = pa.RecordBatch.from_arrays([*batch.columns, *told], schema=schema)
                yield self._chunk(chosen, row + 1, size)
                row += batch.num_rows
                place[0] = f" after row {row}"

    def lines_before(self, piece: Piece) -> int:
        """What to add to the row of a record of a piece: its number is that of the file."""
        return 0

    def _chunk(self, batch: pa.RecordBatch, first: int, size: int) -> Chunk:
        inputs: list[str | np.ndarray] = []
        kept: list[int] = []
        problems: list[Problem] = []
        column = batch.column(self._column.name)
        values = _raw(column) if self._column.kind == "text" else column.to_pylist()
        for place, value in enumerate(values):
            try:
                text = decode(value, self._column.name) if isinstance(value, bytes) else value
                inputs.append(self._column.check(text))
                kept.append(place)
            except BadRecord as error:
                problems.append(Problem(self.file, first + place, error.reason, error.kind))
        lines = [first + place for place in kept]
        if problems:
            rows = rows_at(pa.Table.from_batches([batch]), kept).combine_chunks()
            batch = (rows.to_batches() or [batch.slice(0, 0)])[0]
        return Chunk(batch, inputs, lines, self.file, size, problems)

    def _fits(self, kind: pa.DataType) -> bool:
        """Whether a column of this type may hold the inputs."""
        if self._column.kind == "features":
            rows = _element_type(kind)
            number = None if rows is None else _element_type(rows)
            return number is not None and any(test(number) for test in NUMBER_TESTS)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return any(test(kind) for test in TEXT_TESTS)

    @contextmanager
    def _reading(self, fault: str) -> Iterator[list[str]]:
        """Turn what pyarrow raises into an error of the file; yields where to note the place."""
        place = [""]
        try:
            yield place
        except OsaError:
            raise
        except READING as error:
            raise DataError(f"{self.file} {fault}{place[0]}: {first_line(error)}") from error


def _element_type(kind: pa.DataType) -> pa.DataType | None:
    """Of a list type, what its lists hold; None of any other."""
    return kind.value_type if any(test(kind) for test in LIST_TESTS) else None


def _raw(column: pa.Array) -> list[Any]:
    """Values as bytes, since nobody has checked their UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.cast(pa.large_binary()).to_pylist()
    return values
