"""A record a line: texts, JSON objects or CSV, from a file, a gzipped file or standard input."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from osa.model.records.csv_lines import read_csv
from osa.model.records.record import BadRecord, Problem, Record
from osa.model.records.text_lines import read_lines, read_objects
from osa.service.bulk.column_types import ColumnType, choose_kinds, fit, to_batch, to_schema
from osa.service.bulk.input_column import InputColumn, size_of
from osa.service.bulk.windows import CHUNK_BYTES, Chunk

HEAD = 1000
"""Records from which the kinds of a file's columns are chosen."""
LONGEST = 16 << 20
"""Longest line of a file [bytes]."""
GZIP = ".gz"
STDIN = Path("/dev/stdin")
LineKind = Literal["txt", "jsonl", "csv"]


class LineSource:
    """Records of a file of lines.

    Attributes:
        file: The file, or ``STDIN``.
        kinds: The kind of every column, once ``schema`` has been called; may be widened then.
    """

    def __init__(self, file: Path, kind: LineKind, column: InputColumn) -> None:
        """Take a file of a ``kind``, whose inputs are in ``column``."""
        self.file, self._kind, self._column = file, kind, column
        self._peeked: Iterator[Record | Problem] | None = None
        self.kinds: dict[str, ColumnType] = {}

    def schema(self) -> pa.Schema:
        """Its columns, as its first records have them."""
        records = self._records()
        head = list(itertools.islice(records, HEAD))
        self.kinds = choose_kinds(item.values for item in head if isinstance(item, Record))
        self.kinds[self._column.name] = "string" if self._column.kind == "text" else "json"
        if self.file == STDIN:  # cannot be read twice
            self._peeked = itertools.chain(head, records)
        return to_schema(self.kinds)

    def chunks(self, schema: pa.Schema, chunk_rows: int) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, so many at a time at most."""
        rows: list[Mapping[str, Any]] = []
        inputs: list[str | np.ndarray] = []
        lines: list[int] = []
        problems: list[Problem] = []
        size = 0

        def close() -> Chunk:
            nonlocal rows, inputs, lines, problems, size
            chunk = Chunk(to_batch(rows, schema), inputs, lines, self.file, problems)
            rows, inputs, lines, problems, size = [], [], [], [], 0
            return chunk

        for item in self._records() if self._peeked is None else self._peeked:
            if isinstance(item, Record):
                try:
                    value = self._column.check(item.values.get(self._column.name))
                    rows.append(fit(item.values, self.kinds))
                    inputs.append(value)
                    lines.append(item.line)
                    size += size_of(value)
                except BadRecord as error:
                    problems.append(Problem(self.file, item.line, error.reason, error.kind))
            else:
                problems.append(item)
            if len(rows) + len(problems) >= chunk_rows or size >= CHUNK_BYTES:
                yield close()
        if rows or problems:
            yield close()

    def _records(self) -> Iterator[Record | Problem]:
        compressed = self.file.name.endswith(GZIP)
        if self._kind == "jsonl":
            for item in read_objects(self.file, (self._column.field,), LONGEST, compressed):
                if isinstance(item, Record | Problem):  # a blank line is no record
                    yield item
            return
        lines = read_lines(self.file, LONGEST, compressed)
        if self._kind == "csv":
            yield from read_csv(self.file, lines, self._column.name)
            return
        for line, text in lines:
            yield Record(line, {self._column.name: text}) if isinstance(text, str) else text
