"""Which reader a file needs, and the one schema that all inputs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import get_args

import pyarrow as pa

from osa.model.errors import ConfigError
from osa.model.records.csv_dialect import GivenDialect
from osa.model.records.fields import list_names
from osa.model.records.paths import is_directory, to_path
from osa.model.records.raw_lines import GZIP, split_suffix
from osa.model.records.record import MAX_COLUMNS
from osa.service.bulk.inputs.column_types import ColumnType, to_schema, wider
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.input_files import InputFile, find_files
from osa.service.bulk.inputs.line_source import STDIN, LineKind, LineSource
from osa.service.bulk.inputs.table_source import TableSource
from osa.service.bulk.windows import Source

KINDS: dict[str, LineKind] = {
    ".txt": "txt",
    ".text": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
IN_DIRECTORIES: dict[str, LineKind] = {".json": "jsonl"}
"""What other suffixes mean in a directory, as Spark writes them."""
PARQUET, TABS = ".parquet", ".tsv"
EMBEDDING = "embedding"
"""Default name of the column that the output adds."""
INDEX = "vector_index"
"""The column of a vector's place among those of its record."""
OF_GROUPS = {
    INDEX: pa.int32(),
    "vector_weight": pa.float32(),
    "vector_starts": pa.list_(pa.int64()),
    "vector_ends": pa.list_(pa.int64()),
}
"""Columns beside the vectors of a record that has several: also its share of the record's tokens,
and the characters [start, end) that it stands for."""


@dataclass(frozen=True)
class Inputs:
    """What is embedded.

    Attributes:
        sources: Readers of the files, in order.
        columns: Of all of them.
        reading: How they are read, by option, as far as it was said.
    """

    sources: Sequence[Source]
    columns: pa.Schema
    reading: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InputOptions:
    """How inputs are read.

    Attributes:
        column: Which column is embedded.
        kind: What standard input and files without a known suffix hold.
        dialect: What is known of CSV.
        output_column: Name of the column of vectors that the output adds.
        output_more: Names of those that it adds beside it.
    """

    column: InputColumn
    kind: LineKind | None = None
    dialect: GivenDialect = field(default_factory=GivenDialect)
    output_column: str = EMBEDDING
    output_more: tuple[str, ...] = ()


def open_inputs(inputs: Sequence[str], options: InputOptions) -> Inputs:
    """Open files and check their columns; of standard input the first records are read.

    Args:
        inputs: Paths of files and directories, or ``-`` for standard input.
        options: How they are read.

    Raises:
        ConfigError: Inputs that cannot be read, or do not go together.
        DataError: A damaged file.
    """
    if list(inputs).count("-") > 1:
        raise ConfigError("standard input (-) can be read once")
    sources = [source for name in inputs for source in _open(name, options)]
    if options.dialect != GivenDialect() and not any(map(_is_csv, sources)):
        raise ConfigError("--delimiter, --quote and --escape describe CSV: no input is CSV")
    columns = agree(sources, options.column)
    if options.output_column in columns.names:
        raise ConfigError(
            f"the input has a column {options.output_column!r}, which the output adds: give the "
            "vectors another name with --output-column"
        )
    for name in options.output_more:
        if name in (*columns.names, options.output_column):
            raise ConfigError(
                f"the output adds a column {name!r} with --vectors-per-document, of which there is "
                "another: rename that"
            )
    said = {"format": options.kind, **asdict(options.dialect)}
    reading = {name: one or "none" for name, one in said.items() if one is not None}
    return Inputs(sources, columns, reading)


def _open(name: str, options: InputOptions) -> list[Source]:
    if name == "-":
        kind = options.kind or ("txt" if options.column.kind == "text" else "jsonl")
        return [_line_source(InputFile(STDIN, STDIN.name), kind, options)]
    path = to_path(name)
    try:
        inside = is_directory(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return [_open_file(file, options, inside) for file in find_files(path)]


def _open_file(file: InputFile, options: InputOptions, inside: bool) -> Source:
    suffix, compressed = split_suffix(file.path)
    if suffix == PARQUET and not compressed:
        return TableSource(file, options.column)
    known = {**KINDS, **(IN_DIRECTORIES if inside else {})}.get(suffix, options.kind)
    if known is None:
        raise ConfigError(
            f"{file.path}: unknown kind of file; allowed are {', '.join(KINDS)} (each with {GZIP} "
            f"too) and {PARQUET}, or say what it is: --format {' or '.join(get_args(LineKind))}"
        )
    return _line_source(file, known, options, suffix)


def _is_csv(source: Source) -> bool:
    return isinstance(source, LineSource) and source.kind == "csv"


def _line_source(
    file: InputFile, kind: LineKind, options: InputOptions, suffix: str = ""
) -> LineSource:
    dialect = options.dialect
    if suffix == TABS and dialect.delimiter is None:
        dialect = replace(dialect, delimiter="\t")
    return LineSource(file, _able(file.path, kind, options.column), options.column, dialect)


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
    if len(merged) > MAX_COLUMNS:
        raise ConfigError(
            f"the inputs have {len(merged)} columns, at most {MAX_COLUMNS} are allowed"
        )
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
    return list_names(f"{field.name} {field.type}" for field in schema)
