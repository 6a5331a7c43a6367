"""A record a line: texts, JSON objects or CSV, from a file, a gzipped file or standard input."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from osa.model.records.csv_dialect import GivenDialect
from osa.model.records.csv_lines import read_csv
from osa.model.records.fields import list_names
from osa.model.records.paths import is_remote, size_of_file
from osa.model.records.raw_lines import (
    Span,
    can_be_split,
    lines_before,
    read_raw_lines,
    split_suffix,
)
from osa.model.records.record import MAX_COLUMNS, BadRecord, Problem, Record
from osa.model.records.text_lines import read_lines, read_objects
from osa.service.bulk.inputs.column_types import ColumnType, choose_kinds, fit, to_batch, to_schema
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.input_files import InputFile
from osa.service.bulk.windows import Chunk, Piece, WindowLimits

HEAD, HEAD_SIZE = 1000, 8 << 20
"""From how much of a file the kinds of its columns are chosen, at most [records, characters]."""
LONGEST_RECORD = 16 << 20
"""Longest record of a file [bytes]."""
VALUE = 64
"""What a value takes in memory besides its text, about [bytes]."""
STDIN = Path("/dev/stdin")
LineKind = Literal["txt", "jsonl", "csv"]


class LineSource:
    """Records of a file of lines.

    Attributes:
        file: The file, or ``STDIN``.
        name: By what it is known in notes.
        kind: What its lines are.
        kinds: The kind of every column, once ``schema`` has been called; may be widened then.
    """

    def __init__(
        self,
        file: InputFile,
        kind: LineKind,
        column: InputColumn,
        dialect: GivenDialect | None = None,
    ) -> None:
        """Take a file of a ``kind``, whose inputs are in ``column``.

        Args:
            file: The file, or ``STDIN``.
            kind: What its lines are.
            column: Which column holds the inputs.
            dialect: What is known of the dialect of CSV.
        """
        self.file, self.name, self.kind = file.path, file.name, kind
        self._column, self._partition, self._dialect = column, file.partition, dialect
        self._peeked: Iterator[Record | Problem] | None = None
        self.kinds: dict[str, ColumnType] = {}

    def schema(self) -> pa.Schema:
        """Its columns, as its first records have them."""
        records = self._records()
        once = not self.is_lasting
        held: list[Record | Problem] = []

        def head() -> Iterator[Mapping[str, Any]]:
            size = 0
            for item in itertools.islice(records, HEAD):
                if once:
                    held.append(item)
                if isinstance(item, Record):
                    yield item.values
                    size += item.size + VALUE * len(item.values)
                if size >= HEAD_SIZE:
                    return

        self.kinds = choose_kinds(head())
        self.kinds[self._column.name] = "string" if self._column.kind == "text" else "json"
        if once:
            self._peeked = itertools.chain(held, records)
        else:
            records.close()
        return to_schema(self.kinds)

    @property
    def is_lasting(self) -> bool:
        """Whether it can be read again; a pipe cannot."""
        return is_remote(self.file) or (self.file != STDIN and self.file.is_file())

    def pieces(self, size: int) -> list[Piece]:
        """Pieces of about ``size`` bytes, in order; one where lines alone do not tell records."""
        _, compressed = split_suffix(self.file)
        total = size_of_file(self.file)
        if self.kind == "csv" or compressed or not total or total <= size:
            return [Piece(0, total or 0, total or 0, whole=True)]
        if not can_be_split(self.file):
            return [Piece(0, total, total, whole=True)]
        starts = range(0, total, size)
        return [Piece(at, min(at + size, total), min(size, total - at)) for at in starts]

    def lines_before(self, piece: Piece) -> int:
        """What to add to the line of a record of a piece; reads the file up to there."""
        return 0 if piece.whole else lines_before(self.file, piece.start)

    def chunks(
        self, schema: pa.Schema, limits: WindowLimits, piece: Piece | None = None
    ) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, in chunks within the limits."""
        rows: list[Mapping[str, Any]] = []
        inputs: list[str | np.ndarray] = []
        lines: list[int] = []
        problems: list[Problem] = []
        size = 0

        def close() -> Chunk:
            nonlocal rows, inputs, lines, problems, size
            batch = to_batch(rows, schema)
            chunk = Chunk(batch, inputs, lines, self.file, batch.nbytes, problems)
            rows, inputs, lines, problems, size = [], [], [], [], 0
            return chunk

        for item in self._records(piece) if self._peeked is None else self._peeked:
            if isinstance(item, Record):
                try:
                    value = self._column.check(item.values.get(self._column.name))
                    rows.append(fit(item.values, self.kinds))
                    inputs.append(value)
                    lines.append(item.line)
                    size += item.size + VALUE * len(self.kinds)
                except BadRecord as error:
                    problems.append(Problem(self.file, item.line, error.reason, error.kind))
            else:
                problems.append(item)
            if len(rows) + len(problems) >= limits.chunk_rows or size >= limits.chunk_size:
                yield close()
        if rows or problems:
            yield close()

    def _records(self, piece: Piece | None = None) -> Generator[Record | Problem, None, None]:
        span = None if piece is None or piece.whole else Span(piece.start, piece.stop)
        for item in self._read(span):
            if isinstance(item, Problem):
                yield item
                continue
            try:
                yield Record(item.line, self._complete(item.values), item.size)
            except BadRecord as error:
                yield Problem(self.file, item.line, error.reason, error.kind)

    def _complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values with those of the file's path.

        Raises:
            BadRecord: Names that a table cannot have, or one that the path has too.
        """
        if len(values) > MAX_COLUMNS:
            reason = f"has {len(values)} columns, at most {MAX_COLUMNS} are allowed"
            raise BadRecord("too many columns", reason)
        try:
            "".join(values).encode()
        except UnicodeEncodeError:
            reason = "the name of a column holds a lone surrogate, which is not valid Unicode"
            raise BadRecord("not UTF-8", reason) from None
        if twice := values.keys() & self._partition.keys():
            reason = f"has columns that the path of the file names too: {list_names(twice)}"
            raise BadRecord("new column", reason)
        return {**values, **self._partition}

    def _read(self, span: Span | None) -> Iterator[Record | Problem]:
        _, compressed = split_suffix(self.file)
        if self.kind == "jsonl":
            fields = (self._column.field,)
            for item in read_objects(self.file, fields, LONGEST_RECORD, compressed, span):
                if isinstance(item, Record | Problem):  # a blank line is no record
                    yield item
        elif self.kind == "csv":
            raw = read_raw_lines(self.file, LONGEST_RECORD, compressed)
            yield from read_csv(self.file, raw, LONGEST_RECORD, (self._column.name,), self._dialect)
        else:
            for line, text in read_lines(self.file, LONGEST_RECORD, compressed, span):
                if isinstance(text, Problem):
                    yield text
                else:
                    yield Record(line, {self._column.name: text}, len(text))
