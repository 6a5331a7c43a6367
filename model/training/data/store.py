"""Examples that were checked once, stored on disk and read through a memory map."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from osa.model.records.fields import Field
from osa.model.training.data.cache import (
    EXAMPLES,
    PROBLEMS,
    cache_key,
    load_summary,
    write_store,
)
from osa.model.training.data.report import Rules
from osa.model.training.data.writer import FILE, FLOAT, LINE, Summary


class ExampleStore:
    """Examples in the order of the files; ``build`` creates or opens a store.

    Attributes:
        fields: Fields of an example.
        files: Source files.
        report: Counts and first problems of the files.
        sha256: Digest of field names, kinds, values and order; paths do not matter.
        problems: File that lists the bad records, one JSON object a line.
    """

    def __init__(
        self, directory: Path, fields: tuple[Field, ...], files: Sequence[Path], summary: Summary
    ) -> None:
        """Map the examples in ``directory``; see ``build``.

        Args:
            directory: Directory of this store.
            fields: Fields of an example.
            files: Source files.
            summary: Summary of the stored examples.

        Raises:
            ArrowInvalid: The examples are damaged.
        """
        self.fields = fields
        self.files = tuple(files)
        self.report = summary.report
        self.sha256 = summary.sha256
        self.problems = directory / PROBLEMS
        self._summary = summary
        self._ends = list(accumulate(summary.batches))
        self._reader = pa.ipc.open_file(pa.memory_map(str(directory / EXAMPLES)))
        if self._reader.num_record_batches != len(summary.batches):
            raise pa.ArrowInvalid(f"{directory / EXAMPLES} has another number of batches")
        self._batches: dict[int, pa.RecordBatch] = {}

    @classmethod
    def build(
        cls,
        files: Sequence[Path],
        fields: tuple[Field, ...],
        cache: Path,
        rules: Rules,
        progress: bool = True,
    ) -> ExampleStore:
        """Check all files and store their examples, or open what an earlier call stored.

        Args:
            files: Files of a format that ``readers.read_file`` knows.
            fields: Fields of an example; at least one is not optional.
            cache: Directory of stores.
            rules: What is read, and how much of it may be bad.
            progress: Show a progress bar.

        Raises:
            ConfigError: Invalid fields, a file that cannot be read, or a cache that cannot be
                written.
            DataError: Too many bad records, no good one, or a damaged file.
        """
        directory = cache / cache_key(files, fields, rules)
        if (summary := load_summary(directory)) is not None:
            try:
                return cls(directory, fields, files, summary)
            except (pa.ArrowException, OSError):
                pass  # damaged: written anew
        summary = write_store(directory, files, fields, rules, progress)
        return cls(directory, fields, files, summary)

    def __len__(self) -> int:
        """Number of examples."""
        return self._ends[-1]

    def take(self, rows: np.ndarray | Sequence[int]) -> dict[str, list[Any]]:
        """The examples at ``rows``, in that order; rows may repeat.

        Args:
            rows: Integers from 0 [n].

        Returns:
            By field name, n values: text, labels, numbers, float32 arrays [N, F]; None
            where an optional one is missing.

        Raises:
            IndexError: A row does not exist.
        """
        places = [self._place(row) for row in np.asarray(rows).tolist()]
        return {
            field.name: [self._decode(field, batch.column(index)[place]) for batch, place in places]
            for index, field in enumerate(self.fields)
        }

    def column(self, name: str) -> Iterator[Any]:
        """The values of a field in order, read lazily.

        Raises:
            KeyError: No such field.
        """
        names = [field.name for field in self.fields]
        if name not in names:
            raise KeyError(f"no field {name!r} among {', '.join(names)}")
        index = names.index(name)
        return (
            self._decode(self.fields[index], value)
            for number in range(len(self._ends))
            for value in self._reader.get_batch(number).column(index)
        )

    def location(self, row: int) -> str:
        """Source of an example, as ``file:line``.

        Raises:
            IndexError: The row does not exist.
        """
        batch, place = self._place(row)
        file = self.files[batch.column(FILE)[place].as_py()]
        return f"{file}:{batch.column(LINE)[place].as_py()}"

    def _place(self, row: Any) -> tuple[pa.RecordBatch, int]:
        """The batch of ``row``, and the index in it."""
        if type(row) is not int or not 0 <= row < len(self):
            raise IndexError(f"rows are integers from 0 to {len(self) - 1}, got {row}")
        number = bisect_right(self._ends, row)
        if number not in self._batches:
            self._batches[number] = self._reader.get_batch(number)
        batch = self._batches[number]
        return batch, row - self._ends[number] + batch.num_rows

    def _decode(self, field: Field, value: pa.Scalar) -> Any:
        if not value.is_valid:
            return None
        if field.kind == "features":
            width = self._summary.widths[field.name]
            return np.frombuffer(value.as_buffer(), FLOAT).reshape(-1, width).copy()
        if field.kind == "relevance":
            return float(value.as_py())
        if self._summary.label_types.get(field.name) == "int":
            return int(value.as_py())
        return value.as_py()
