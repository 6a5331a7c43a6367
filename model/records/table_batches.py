"""Rows of Parquet and Arrow tables in batches that are bounded by bytes, whatever a row holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError
from osa.model.records.paths import is_remote, open_binary

FEW = 16
"""Rows that are decoded at once where they may be large; larger ones are decoded one by one."""
BUFFER = 1 << 16
"""How much of a column is read from the file at once [bytes]."""
MAX_PARTS = 100_000
"""Most entries of a list in a file's own description: a bound on columns and row groups."""


def open_parquet(file: Path) -> pq.ParquetFile:
    """A Parquet file that is read piece by piece.

    Raises:
        ConfigError: It cannot be opened.
        pa.ArrowException: It is no Parquet file.
        OSError: It is damaged.
    """
    try:
        stream = open_binary(file, scattered=True)
        if not is_remote(file):
            stream.close()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return pq.ParquetFile(
        stream if is_remote(file) else file,
        pre_buffer=False,
        buffer_size=BUFFER,
        thrift_container_size_limit=MAX_PARTS,
    )


def parquet_batches(
    table: pq.ParquetFile,
    columns: Sequence[str] | None,
    rows: int,
    size: int,
    groups: range | None = None,
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The rows of a Parquet file in order, in batches with their sizes [bytes].

    Args:
        table: From ``open_parquet``.
        columns: Names of the columns to read; None for all.
        rows: Most rows of a batch.
        size: About how many bytes a batch has at most; one row is never divided.
        groups: Only these row groups.
    """
    for group in range(table.num_row_groups) if groups is None else groups:
        count = _rows_at_once(table.metadata.row_group(group), columns, rows, size)
        batches = table.iter_batches(
            batch_size=count, row_groups=[group], columns=columns, use_threads=False
        )
        for batch in batches:
            yield from slices(batch, rows, size)


def slices(batch: pa.RecordBatch, rows: int, size: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The rows of a batch in smaller ones, with their sizes; arguments as ``parquet_batches``."""
    shared = [number for number, kind in enumerate(batch.schema.types) if _shares(kind)]
    own = [number for number in range(batch.num_columns) if number not in set(shared)]
    a_row = sum(_shared_bytes(batch.column(number)) for number in shared)
    a_row /= max(1, batch.num_rows)

    def measure(part: pa.RecordBatch) -> int:
        return int((part.select(own) if shared else part).nbytes + a_row * part.num_rows)

    for start in range(0, batch.num_rows, rows):
        waiting = [batch.slice(start, rows)]
        while waiting:
            part = waiting.pop()
            found = measure(part)
            if part.num_rows > 1 and found > size:
                half = part.num_rows // 2
                waiting += [part.slice(half), part.slice(0, half)]
            else:
                yield part, found


def _shares(kind: pa.DataType) -> bool:
    """Whether rows of such a column share buffers, so that a slice has no size of its own."""
    name = str(kind)
    return "dictionary" in name or "_view" in name


def _shared_bytes(column: pa.Array) -> float:
    if pa.types.is_dictionary(column.type):
        values = column.dictionary
        return float(column.indices.nbytes + len(column) * values.nbytes / max(1, len(values)))
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        return float(column.cast(pa.large_binary()).nbytes)
    return float(column.nbytes)


def _rows_at_once(group: Any, columns: Sequence[str] | None, rows: int, size: int) -> int:
    """How many rows of a row group are decoded at once.

    What a page holds is known, but a dictionary's values may each stand in every row: of them the
    worst is assumed.
    """
    plain: int = 0
    worst: int = 0
    for number in range(group.num_columns):
        column = group.column(number)
        if columns is not None and not _is_of(column.path_in_schema, columns):
            continue
        stored = max(0, column.total_uncompressed_size)
        if column.physical_type.endswith("BYTE_ARRAY") and any(
            "DICTIONARY" in encoding for encoding in column.encodings
        ):
            worst += stored * max(1, int(column.num_values) // max(1, group.num_rows))
        else:
            plain += stored
    count = max(1, int(group.num_rows))
    if plain + worst * count <= size:
        return rows
    a_row = plain // count + worst
    return min(rows, max(1, size // max(1, a_row)), FEW if plain > size else rows)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)
