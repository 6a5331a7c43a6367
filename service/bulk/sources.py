"""Which reader a file needs, and the one schema that all inputs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa

from osa.model.errors import ConfigError
from osa.model.records.fields import list_names
from osa.service.bulk.column_types import ColumnType, to_schema, wider
from osa.service.bulk.input_column import InputColumn
from osa.service.bulk.line_source import GZIP, STDIN, LineKind, LineSource
from osa.service.bulk.table_source import TableSource
from osa.service.bulk.windows import Source

KINDS: dict[str, LineKind] = {
    ".txt": "txt",
    ".text": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
PARQUET = ".parquet"
EMBEDDING = "embedding"
"""Name of the column that the output adds."""


@dataclass(frozen=True)
class Inputs:
    """What is embedded.

    Attributes:
        sources: Readers of the files, in order.
        columns: Of all of them.
    """

    sources: Sequence[Source]
    columns: pa.Schema


def open_inputs(inputs: Sequence[str], column: InputColumn, kind: LineKind | None) -> Inputs:
    """Open files and check their columns; of standard input the first records are read.

    Args:
        inputs: Paths, or ``-`` for standard input.
        column: Which column is embedded.
        kind: What standard input and files without a known suffix hold.

    Raises:
        ConfigError: Inputs that cannot be read, or do not go together.
        DataError: A damaged file.
    """
    sources = open_sources(inputs, column, kind)
    columns = agree(sources, column)
    if EMBEDDING in columns.names:
        raise ConfigError(f"the input has a column {EMBEDDING!r}, which the output adds")
    return Inputs(sources, columns)


def open_sources(inputs: Sequence[str], column: InputColumn, kind: LineKind | None) -> list[Source]:
    """Readers of files, in their order.

    Args:
        inputs: Paths, or ``-`` for standard input.
        column: Which column is embedded.
        kind: What standard input and files without a known suffix hold.

    Raises:
        ConfigError: A file of no kind that is known, or standard input twice.
    """
    if list(inputs).count("-") > 1:
        raise ConfigError("standard input (-) can be read once")
    return [_open(name, column, kind) for name in inputs]


def _open(name: str, column: InputColumn, kind: LineKind | None) -> Source:
    if name == "-":
        found = kind or ("txt" if column.kind == "text" else "jsonl")
        return LineSource(STDIN, _able(STDIN, found, column), column)
    file = Path(name)
    lower = file.name.lower()
    suffix = Path(lower.removesuffix(GZIP)).suffix
    if lower.endswith(PARQUET):
        return TableSource(file, column)
    known = KINDS.get(suffix, kind)
    if known is None:
        raise ConfigError(
            f"{file}: unknown kind of file; allowed are {', '.join(KINDS)} (each with {GZIP} too) "
            f"and {PARQUET}, or say what it is: --format {' or '.join(get_args(LineKind))}"
        )
    return LineSource(file, _able(file, known, column), column)


def _able(file: Path, kind: LineKind, column: InputColumn) -> LineKind:
    """``kind``, if such lines can hold what is embedded.

    Raises:
        ConfigError: Features in lines of text.
    """
    if column.kind == "features" and kind != "jsonl":
        raise ConfigError(
            f"{file}: this model takes features, which are read from JSON lines and {PARQUET}, "
            f"not from {kind}"
        )
    return kind


def agree(sources: Sequence[Source], column: InputColumn) -> pa.Schema:
    """The schema of all sources: files of lines may have columns more or less, tables may not.

    Raises:
        ConfigError: Columns that differ, or no column of the inputs.
    """
    schemas = {source.file: source.schema() for source in sources}
    lines = [source for source in sources if isinstance(source, LineSource)]
    merged: dict[str, ColumnType] = {}
    for source in lines:
        for name, kind in source.kinds.items():
            merged[name] = wider(merged.get(name, kind), kind)
    for source in lines:
        source.kinds = merged
        schemas[source.file] = to_schema(merged)
    first, *others = schemas.items()
    for file, schema in schemas.items():
        if schema.names.count(column.name) != 1:
            raise ConfigError(
                f"{file} must have one column {column.name!r}; it has {list_names(schema.names)}"
            )
    for file, schema in others:
        if schema != first[1]:
            raise ConfigError(
                f"{first[0]} and {file} have different columns: {_columns(first[1])}; "
                f"{_columns(schema)}"
            )
    return first[1]


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
