"""A record a line: texts, JSON objects or CSV, from a file, a gzipped file or standard input."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from osa.model.records.csv_lines import read_csv
from osa.model.records.fields import Field
from osa.model.records.record import BadRecord, Problem, Record
from osa.model.records.text_lines import read_lines, read_objects
from osa.service.bulk.column_types import ColumnType, choose_kinds, fit, to_batch, to_schema
from osa.service.bulk.windows import CHUNK_BYTES, Chunk, check_text

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

    def __init__(self, file: Path, kind: LineKind, column: str) -> None:
        """Take a file of a ``kind``, whose texts are in ``column``."""
        self.file, self._kind, self._column = file, kind, column
        self._peeked: Iterator[Record | Problem] | None = None
        self.kinds: dict[str, ColumnType] = {}

    def schema(self) -> pa.Schema:
        """Its columns, as its first records have them."""
        records = self._records()
        head = list(itertools.islice(records, HEAD))
        self.kinds = choose_kinds(item.values for item in head if isinstance(item, Record))
        self.kinds[self._column] = "string"
        if self.file == STDIN:  # cannot be read twice
            self._peeked = itertools.chain(head, records)
        return to_schema(self.kinds)

    def chunks(self, schema: pa.Schema, chunk_rows: int) -> Iterator[Chunk]:
        """Its records, in order, with the columns of ``schema``, so many at a time at most."""
        rows: list[Mapping[str, Any]] = []
        lines: list[int] = []
        problems: list[Problem] = []
        size = 0

        def close() -> Chunk:
            nonlocal rows, lines, problems, size
            texts = [row[self._column] for row in rows]
            chunk = Chunk(to_batch(rows, schema), texts, lines, self.file, problems)
            rows, lines, problems, size = [], [], [], 0
            return chunk

        for item in self._records() if self._peeked is None else self._peeked:
            if isinstance(item, Record):
                try:
                    size += len(check_text(item.values.get(self._column), self._column))
                    rows.append(fit(item.values, self.kinds))
                    lines.append(item.line)
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
            wanted = (Field("text", self._column, "text"),)
            for item in read_objects(self.file, wanted, LONGEST, compressed):
                if isinstance(item, Record | Problem):  # a blank line is no record
                    yield item
            return
        lines = read_lines(self.file, LONGEST, compressed)
        if self._kind == "csv":
            yield from read_csv(self.file, lines, self._column)
            return
        for line, text in lines:
            yield Record(line, {self._column: text}) if isinstance(text, str) else text
