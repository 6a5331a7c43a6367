"""Parquet: columns go through as they are, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import decode
from osa.model.records.record import BadRecord, Problem
from osa.service.bulk.input_column import InputColumn
from osa.service.bulk.windows import Chunk

TEXT_TESTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
NUMBER_TESTS = (pa.types.is_floating, pa.types.is_integer)
LIST_TESTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class TableSource:
    """Rows of a Parquet file.

    Attributes:
        file: The file.
    """

    def __init__(self, file: Path, column: InputColumn) -> None:
        """Take a file whose inputs are in ``column``."""
        self.file, self._column = file, column

    def schema(self) -> pa.Schema:
        """Its columns.

        Raises:
            ConfigError: The file cannot be opened, or the column of the inputs is of another type.
            DataError: It is no Parquet file.
        """
        with self._open() as table:
            schema = table.schema_arrow.remove_metadata()
        for field in schema:
            if field.name == self._column.name and not self._fits(field.type):
                wanted = "strings" if self._column.kind == "text" else "lists of lists of numbers"
                raise ConfigError(
                    f"{self.file}: column {field.name!r} must hold {wanted}, got {field.type}"
                )
        return schema

    def chunks(self, schema: pa.Schema, chunk_rows: int) -> Iterator[Chunk]:
        """Its rows, in order, with the columns of ``schema``, so many at a time at most.

        Raises:
            DataError: The file is damaged.
        """
        row = 0
        try:
            with self._open() as table:
                for batch in table.iter_batches(batch_size=chunk_rows, use_threads=False):
                    chosen = pa.RecordBatch.from_arrays(
                        [batch.column(name) for name in schema.names], schema=schema
                    )
                    yield self._chunk(chosen, row + 1)
                    row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            cause = str(error).partition("\n")[0]
            raise DataError(f"{self.file}: damaged after row {row}: {cause}") from error

    def _chunk(self, batch: pa.RecordBatch, first: int) -> Chunk:
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
        rows = batch if not problems else batch.take(pa.array(kept, pa.int64()))
        return Chunk(rows, inputs, [first + place for place in kept], self.file, problems)

    def _fits(self, kind: pa.DataType) -> bool:
        """Whether a column of this type may hold the inputs."""
        if self._column.kind == "features":
            rows = _element_type(kind)
            number = None if rows is None else _element_type(rows)
            return number is not None and any(test(number) for test in NUMBER_TESTS)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return any(test(kind) for test in TEXT_TESTS)

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.file)
        except OSError as error:
            raise ConfigError(f"cannot read {self.file}: {error}") from error
        except pa.ArrowException as error:
            cause = str(error).partition("\n")[0]
            raise DataError(f"{self.file} is no Parquet file: {cause}") from error


def _element_type(kind: pa.DataType) -> pa.DataType | None:
    """Of a list type, what its lists hold; None of any other."""
    return kind.value_type if any(test(kind) for test in LIST_TESTS) else None


def _raw(column: pa.Array) -> list[Any]:
    """Values as bytes, since nobody has checked their UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.cast(pa.large_binary()).to_pylist()
    return values
