"""One run: read and tokenise the next window while the engine computes this one, and write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.paths import size_of_file
from osa.model.records.record import Problem
from osa.service.bulk.encoder import BulkEncoder
from osa.service.bulk.inputs.input_column import InputKind
from osa.service.bulk.inputs.sources import EMBEDDING, INDEX, Inputs
from osa.service.bulk.output_parts import Parts
from osa.service.bulk.run_directory import Note, discard, find_finished
from osa.service.bulk.schema_metadata import extend_metadata
from osa.service.bulk.window_work import (
    Prepared,
    Summary,
    added_fields,
    count_finished,
    embed_window,
    prepare,
    without,
)
from osa.service.bulk.windows import (
    Chunk,
    Source,
    Window,
    WindowLimits,
    gather_windows,
    rows_at,
)


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    Attributes:
        column: Which column is embedded.
        kind: What it holds.
        output_column: Name of the column of vectors.
        window: How large a window is, which is one row group of the output.
        skip_bad: Leave bad records out instead of stopping at the first.
        resume: Go on with a run that was killed; nothing to do where it was finished.
    """

    column: str = "text"
    kind: InputKind = "text"
    output_column: str = EMBEDDING
    window: WindowLimits = field(default_factory=WindowLimits)
    skip_bad: bool = False
    resume: bool = False


def describe_job(identity: Note, inputs: Inputs, options: RunOptions) -> Note:
    """What decides the content of the output.

    Args:
        identity: Of the encoder.
        inputs: What is read.
        options: How.
    """
    return {
        **identity,
        "column": options.column,
        "output_column": options.output_column,
        "columns": [f"{item.name}: {item.type}" for item in inputs.columns],
        **inputs.reading,
        "rows_per_group": options.window.rows,
        "window_bytes": options.window.size,
    }


def describe_files(sources: Sequence[Source]) -> list[Note]:
    """Name and size of each file [bytes]; of standard input the name alone."""
    return [{"name": one.name, "bytes": size_of_file(one.file)} for one in sources]


def finished_schema(columns: pa.Schema, added: Sequence[pa.Field], rows: int) -> pa.Schema:
    """The schema of a whole output of so many rows."""
    metadata = extend_metadata(columns.metadata, added, rows)
    return pa.schema([*columns, *added], metadata)


class BulkRun:
    """Files in, one Parquet file out."""

    def __init__(
        self,
        inputs: Inputs,
        encoder: BulkEncoder,
        output: Path,
        options: RunOptions,
        report: Callable[[Problem], None],
    ) -> None:
        """Describe the run.

        Args:
            inputs: What to read.
            encoder: What embeds it.
            output: The file to make.
            options: How.
            report: Told every record that is left out.
        """
        self._sources, self._encoder, self._output = inputs.sources, encoder, output
        self._options, self._report = options, report
        self._columns, self._inputs_of = inputs.columns, inputs
        self._grouped = encoder.grouping is not None
        self._added = added_fields(
            options.output_column, encoder.dimensions, encoder.dtype, self._grouped
        )

    def job(self) -> Note:
        """What decides the content of the output."""
        return describe_job(self._encoder.identity(), self._inputs_of, self._options)

    def run(self, advance: Callable[[int], object]) -> Summary:
        """Embed everything; ``advance`` is told how many texts are done.

        Raises:
            ConfigError: The output exists, or an unfinished run of another job.
            DataError: A bad record that is not to be skipped, a damaged file, no text at all, or
                an input that is not the one that the run to resume was begun with.
        """
        options = self._options
        if self._output.exists():
            note = find_finished(self._output)
            same = note.get("job") == self.job() and note.get("inputs") == describe_files(
                self._sources
            )
            if options.resume and same:
                discard(self._output, self.job())
                return count_finished(note)
            raise ConfigError(f"{self._output} exists: remove it, or choose another --output")
        parts = Parts(self._output, self.job(), options.resume)
        summary = Summary()
        try:
            windows = 0
            for number, prepared in enumerate(self._prefetched(parts.count)):
                if number >= parts.count:
                    parts.append(*self._embed(prepared, advance))
                else:
                    self._check_part(parts, number, prepared.window)
                    advance(len(prepared.window.inputs))
                summary.add(parts.note(number))
                windows += 1
            if windows < parts.count:
                raise DataError(f"the input is shorter than when {parts.directory} was begun")
            if not summary.texts:
                parts.abandon()
                files = ", ".join(str(one.file) for one in self._sources)
                raise DataError(f"no {self._options.kind} in {files}")
            made = {"version": version("osa-encoder"), "inputs": describe_files(self._sources)}
            schema = finished_schema(self._columns, self._added, summary.vectors)
            parts.finish(schema, {"job": self.job(), **summary.to_note(), **made})
        except MemoryError:
            read = summary.texts + sum(summary.skipped.values())
            raise DataError(
                f"not enough memory after {read} records, with --window-bytes "
                f"{options.window.size}: a smaller window needs less, one record what it holds"
            ) from None
        finally:
            parts.close()
        return summary

    def _prefetched(self, done: int) -> Iterator[Prepared]:
        """Windows in order, one ahead; the first ``done`` without ids."""
        with ThreadPoolExecutor(1, thread_name_prefix="osa-read") as reader:
            windows = self._windows()

            def read(number: int) -> Prepared | None:
                window = next(windows, None)
                if window is None:
                    return None
                if number < done:
                    return Prepared(window, [])
                return prepare(self._encoder, window)

            number, pending = 0, reader.submit(read, 0)
            while (prepared := pending.result()) is not None:
                number += 1
                pending = reader.submit(read, number)
                yield prepared

    def _windows(self) -> Iterator[Window]:
        return gather_windows(self._chunks(), self._columns, self._options.window)

    def _chunks(self) -> Iterator[Chunk]:
        for source in self._sources:
            for chunk in source.chunks(self._columns, self._options.window):
                if chunk.problems and not self._options.skip_bad:
                    raise DataError(str(chunk.problems[0]))
                yield chunk

    def _embed(self, prepared: Prepared, advance: Callable[[int], object]) -> tuple[pa.Table, Note]:
        """Rows of a part with their vectors, and what is noted of it."""
        rows, note, problems = embed_window(self._encoder, prepared, self._added, advance)
        if problems and not self._options.skip_bad:
            raise DataError(str(problems[0]))
        for problem in problems:
            self._report(problem)
        return rows, note

    def _check_part(self, parts: Parts, number: int, window: Window) -> None:
        """A part must have been made of the same records."""
        kept = without(len(window.inputs), parts.note(number)["failed"])
        names = self._columns.names
        wanted = rows_at(window.rows, kept.tolist()).select(names)
        place, same = 0, True

        def compare(rows: pa.Table) -> None:
            nonlocal place, same
            if self._grouped:
                firsts = np.flatnonzero(rows.column(INDEX).to_numpy() == 0)
                rows = rows_at(rows, firsts.tolist()).select(names)
            same = same and rows.equals(wanted.slice(place, rows.num_rows))
            place += rows.num_rows

        parts.read_groups(number, [*names, INDEX] if self._grouped else names, compare)
        if not same or place != wanted.num_rows:
            raise DataError(
                f"the input has changed since {parts.directory} was begun (row group {number}): "
                "remove the directory to begin anew"
            )
