"""One pass over the files that checks records, writes the good ones and lists the bad ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from osa.model.common.progress import Progress
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import Item, Problem, Record
from osa.model.training.data.report import Report, Tally

BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20
"""Limits of a batch of the store [examples, bytes]."""
FILE, LINE = "_file", "_line"
FLOAT = "<f4"
"""Storage type of features."""


@dataclass(frozen=True)
class Summary:
    """Summary of a store.

    Attributes:
        report: Counts and first problems of the files.
        sha256: Digest of the examples in order: of field names, kinds and values, not of paths.
        batches: Number of examples of each batch.
        label_types: ``int`` or ``str``, by the name of a label field.
        widths: F, by the name of a features field.
    """

    report: Report
    sha256: str
    batches: tuple[int, ...]
    label_types: dict[str, str]
    widths: dict[str, int]


@dataclass
class Consistency:
    """Checks that all examples have the same type of labels and width of features.

    Attributes:
        label_types: ``int`` or ``str``, by the name of a label field.
        widths: F, by the name of a features field.
    """

    label_types: dict[str, str] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)

    def check(self, file: Path, fields: tuple[Field, ...], record: Item) -> Item:
        """The record, or a ``Problem`` if it is inconsistent with those before it."""
        if not isinstance(record, Record):
            return record
        for item in fields:
            value = record.values[item.name]
            if value is not None and (mismatch := self._mismatch(item, value)):
                reason, kind = mismatch
                return Problem(file, record.line, f"column {item.column!r} {reason}", kind)
        return record

    def _mismatch(self, item: Field, value: Any) -> tuple[str, str] | None:
        if item.kind == "label":
            found = type(value).__name__
            first = self.label_types.setdefault(item.name, found)
            if found != first:
                return f"is {found}, in earlier records {first}", "wrong type"
        elif item.kind == "features":
            width = self.widths.setdefault(item.name, value.shape[1])
            if value.shape[1] != width:
                reason = f"has rows of {value.shape[1]} numbers, in earlier records of {width}"
                return reason, "ragged features"
        return None


def write_examples(
    files: Sequence[Path],
    fields: tuple[Field, ...],
    output: Path,
    tally: Tally,
    progress: bool,
) -> Summary:
    """Read ``files`` once, in order, and write the good examples to an Arrow IPC file.

    Args:
        files: Source files.
        fields: Fields of an example.
        output: The Arrow IPC file.
        tally: Counts records and logs the bad ones.
        progress: Show a progress bar.

    Raises:
        ConfigError: A file cannot be read at all.
        DataError: A file is damaged, or too many records are bad.
    """
    consistency = Consistency()
    bar = Progress("checking examples", "records", enabled=progress)
    with bar, _Writer(output, fields) as writer:
        for index, file in enumerate(files):
            if tally.is_full:
                break
            items = read_file(file, fields, tally.rules.max_record_bytes)
            with contextlib.closing(items):
                for item in items:
                    bar.update()
                    found = consistency.check(file, fields, item)
                    if isinstance(found, Record):
                        writer.add(index, found)
                        tally.kept += 1
                        if tally.is_full:
                            break
                    elif isinstance(found, Problem):
                        tally.add(found)
                    else:
                        tally.empty += 1
        writer.flush()
    report = tally.finish(", ".join(map(str, files)))
    digest, batches = writer.digest.hexdigest(), tuple(writer.batches)
    return Summary(report, digest, batches, consistency.label_types, consistency.widths)


class _Writer:
    """Writes examples in batches.

    Attributes:
        digest: sha256 of the examples added.
        batches: Number of examples of each batch written.
    """

    def __init__(self, output: Path, fields: tuple[Field, ...]) -> None:
        self.digest = hashlib.sha256(json.dumps([(f.name, f.kind) for f in fields]).encode())
        self.batches: list[int] = []
        self._fields = fields
        columns = {f.name: pa.binary() if f.kind == "features" else pa.string() for f in fields}
        self._schema = pa.schema({**columns, FILE: pa.int32(), LINE: pa.int64()})
        self._sink = pa.OSFile(str(output), "wb")
        self._file = pa.ipc.new_file(self._sink, self._schema)
        self._clear()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sink.close()

    def add(self, file: int, record: Record) -> None:
        """Add an example of the file with index ``file``."""
        for item in self._fields:
            tag, payload = _encode(record.values[item.name])
            self._parts += (tag, len(payload).to_bytes(8, "little"), payload)
            self._bytes += len(payload)
            self._columns[item.name].append(None if tag == b"n" else payload)
        self._columns[FILE].append(file)
        self._columns[LINE].append(record.line)
        if len(self._columns[FILE]) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the pending batch."""
        if not self._columns[FILE]:
            return
        self.digest.update(b"".join(self._parts))
        arrays = [pa.array(self._columns[entry.name], entry.type) for entry in self._schema]
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.batches.append(len(self._columns[FILE]))
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._parts: list[bytes] = []
        self._bytes = 0


def _encode(value: Any) -> tuple[bytes, bytes]:
    """Type tag and stored bytes of a value."""
    if value is None:
        return b"n", b""
    if isinstance(value, np.ndarray):
        return b"f", value.astype(FLOAT).tobytes()
    if isinstance(value, float):
        return b"d", repr(value).encode()
    return (b"i" if isinstance(value, int) else b"s"), str(value).encode()
