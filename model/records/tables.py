"""Reader of Parquet and Arrow files, in small batches of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from osa.model.errors import ConfigError, OsaError, first_line
from osa.model.records.errors import DataError
from osa.model.records.fields import Field, list_names
from osa.model.records.record import Problem, Record
from osa.model.records.table_batches import open_parquet, parquet_batches, slices

BATCH, BATCH_BYTES = 1024, 8 << 20
"""How much is converted to Python values at once, at most [rows, bytes]."""
FILE_MAGIC = b"ARROW1"
"""First bytes of the Arrow IPC file format; the stream format has none."""
BYTES_A_NUMBER = 4


def read_table(
    file: Path, fields: tuple[Field, ...], limit: int, parquet: bool
) -> Generator[Record | Problem, None, None]:
    """The rows of a table by column; text as bytes, whose UTF-8 is not checked yet.

    Args:
        file: The file.
        fields: Fields whose columns are read.
        limit: Longest value [bytes]; numbers count as float32.
        parquet: Whether it is Parquet; otherwise Arrow IPC (file or stream).

    Raises:
        ConfigError: The file cannot be opened.
        DataError: The file is damaged, or lacks a column.
    """
    row = 0
    try:
        with contextlib.ExitStack() as stack:
            batches = (_parquet if parquet else _arrow)(file, fields, stack)
            for batch, _ in batches:
                columns = {name: _values(batch.column(name)) for name in batch.schema.names}
                for values in zip(*columns.values(), strict=True):
                    row += 1
                    yield _row(file, row, dict(zip(columns, values, strict=True)), limit)
    except OsaError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError, MemoryError) as error:
        kind, cause = "Parquet" if parquet else "Arrow", first_line(error)
        place = f" after row {row}" if row else ""
        raise DataError(f"{file}: damaged, or no {kind} file{place}: {cause}") from error


def _row(file: Path, row: int, values: dict[str, Any], limit: int) -> Record | Problem:
    for column, value in values.items():
        if (size := _size(value)) > limit:
            reason = f"column {column!r} has {size} bytes, more than max_record_bytes ({limit})"
            return Problem(file, row, reason, "too long")
    return Record(row, values)


def _size(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list):
        return BYTES_A_NUMBER * sum(len(item) for item in value if isinstance(item, list))
    return 0


def _parquet(
    file: Path, fields: tuple[Field, ...], stack: contextlib.ExitStack
) -> Iterator[tuple[pa.RecordBatch, int]]:
    table = stack.enter_context(open_parquet(file))
    columns = _present(file, table.schema_arrow, fields)
    yield from parquet_batches(table, columns, BATCH, BATCH_BYTES)


def _arrow(
    file: Path, fields: tuple[Field, ...], stack: contextlib.ExitStack
) -> Iterator[tuple[pa.RecordBatch, int]]:
    with _open(file) as handle:
        is_file = handle.read(len(FILE_MAGIC)) == FILE_MAGIC
    source = stack.enter_context(pa.memory_map(str(file)))
    reader = stack.enter_context(
        pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
    )
    columns = _present(file, reader.schema, fields)
    places = range(reader.num_record_batches) if is_file else None
    batches = reader if places is None else map(reader.get_batch, places)
    for batch in batches:
        yield from slices(batch.select(columns), BATCH, BATCH_BYTES)


def _open(file: Path) -> Any:
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _present(file: Path, schema: pa.Schema, fields: tuple[Field, ...]) -> list[str]:
    columns = []
    for field in fields:
        count = schema.names.count(field.column)
        if count > 1:
            raise DataError(f"{file} has {count} columns {field.column!r}")
        if count == 0 and not field.optional:
            raise DataError(
                f"{file} has no column {field.column!r}; it has {list_names(schema.names)}"
            )
        columns += [field.column] * count
    return list(dict.fromkeys(columns))


def _values(column: pa.Array) -> list[Any]:
    """Python values of a column; strings as bytes, not checked for UTF-8."""
    if pa.types.is_dictionary(column.type):
        column.validate(full=True)
        column = column.dictionary_decode()
    is_text = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary_view,
    )
    if any(test(column.type) for test in is_text):
        column.validate()
        column = column.cast(pa.large_binary())
    column.validate(full=True)
    values: list[Any] = column.to_pylist()
    return values
