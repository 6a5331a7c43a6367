"""Parquet: columns go through as they are, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import decode
from osa.model.records.record import BadRecord, Problem
from osa.service.bulk.windows import Chunk, check_text

TEXT_TESTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


class TableSource:
    """Rows of a Parquet file.

    Attributes:
        file: The file.
    """

    def __init__(self, file: Path, column: str) -> None:
        """Take a file whose texts are in ``column``."""
        self.file, self._column = file, column

    def schema(self) -> pa.Schema:
        """Its columns.

        Raises:
            ConfigError: The file cannot be opened, or the text column is of another type.
            DataError: It is no Parquet file.
        """
        with self._open() as table:
            schema = table.schema_arrow.remove_metadata()
        for field in schema:
            kind = field.type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if field.name == self._column and not any(test(kind) for test in TEXT_TESTS):
                raise ConfigError(
                    f"{self.file}: column {self._column!r} must hold strings, got {field.type}"
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
        texts: list[str] = []
        kept: list[int] = []
        problems: list[Problem] = []
        for place, value in enumerate(_raw(batch.column(self._column))):
            try:
                text = decode(value, self._column) if isinstance(value, bytes) else value
                texts.append(check_text(text, self._column))
                kept.append(place)
            except BadRecord as error:
                problems.append(Problem(self.file, first + place, error.reason, error.kind))
        rows = batch if not problems else batch.take(pa.array(kept, pa.int64()))
        return Chunk(rows, texts, [first + place for place in kept], self.file, problems)

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.file)
        except OSError as error:
            raise ConfigError(f"cannot read {self.file}: {error}") from error
        except pa.ArrowException as error:
            cause = str(error).partition("\n")[0]
            raise DataError(f"{self.file} is no Parquet file: {cause}") from error


def _raw(column: pa.Array) -> list[Any]:
    """Values as bytes, since nobody has checked their UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.cast(pa.large_binary()).to_pylist()
    return values
