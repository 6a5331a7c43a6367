"""One run: read and tokenise the next window while the engine computes this one, and write it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.record import Problem
from osa.model.sequences import InputRows
from osa.service.bulk.encoder import BulkEncoder
from osa.service.bulk.input_column import InputKind
from osa.service.bulk.output_parts import Note, Parts, discard, find_finished
from osa.service.bulk.schema_metadata import extend_metadata
from osa.service.bulk.sources import EMBEDDING, Inputs
from osa.service.bulk.windows import Chunk, Window, WindowLimits, gather_windows, rows_at

ARROW_FLOATS = {"float32": pa.float32(), "float16": pa.float16()}


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


@dataclass
class Summary:
    """What a run has done, parts of an earlier one included.

    Attributes:
        texts: Texts, or sequences of features, embedded.
        tokens: Their tokens, or rows.
        truncated: Of them, those that were cut.
        unknown: Tokens for what the vocabulary does not have.
        skipped: Bad records by kind.
    """

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    unknown: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, note: Note) -> None:
        """Count a part."""
        self.texts += note["texts"]
        self.tokens += note["tokens"]
        self.truncated += note["truncated"]
        self.unknown += note.get("unknown", 0)
        self.skipped.update(note["skipped"])

    def to_note(self) -> Note:
        """As JSON."""
        return {**self.__dict__, "skipped": dict(sorted(self.skipped.items()))}


@dataclass(frozen=True)
class _Prepared:
    """A window, and its ids or features unless an earlier run has embedded it."""

    window: Window
    ids: InputRows
    truncated: int
    unknown: int


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
        self._columns, self._reading = inputs.columns, inputs.reading
        vector = pa.list_(ARROW_FLOATS[encoder.dtype], encoder.dimensions)
        self._added = pa.field(options.output_column, vector, nullable=False)

    def job(self) -> Note:
        """What decides the content of the output."""
        info, options = self._encoder.engine.info, self._options
        return {
            "model_sha256": info.model_sha256,
            "backend": f"{info.backend}, {info.kernel}, {info.device}, {info.dtype}",
            "dimensions": self._encoder.dimensions,
            "dtype": self._encoder.dtype,
            **dataclasses.asdict(self._encoder.options),
            "column": options.column,
            "output_column": options.output_column,
            "columns": [f"{item.name}: {item.type}" for item in self._columns],
            **self._reading,
            "rows_per_group": options.window.rows,
            "window_bytes": options.window.size,
        }

    def _inputs(self) -> list[Note]:
        """Name and size of each file [bytes]; of standard input the name alone."""
        return [
            {"name": one.name, "bytes": one.file.stat().st_size if one.file.is_file() else None}
            for one in self._sources
        ]

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
            same = note.get("job") == self.job() and note.get("inputs") == self._inputs()
            if options.resume and same:
                discard(self._output, self.job())
                return _finished(note)
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
            made = {"version": version("osa-encoder"), "inputs": self._inputs()}
            metadata = extend_metadata(self._columns.metadata, self._added, summary.texts)
            schema = self._columns.append(self._added).with_metadata(metadata)
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

    def _prefetched(self, done: int) -> Iterator[_Prepared]:
        """Windows in order, one ahead; the first ``done`` without ids."""
        with ThreadPoolExecutor(1, thread_name_prefix="osa-read") as reader:
            windows = self._windows()

            def prepare(number: int) -> _Prepared | None:
                window = next(windows, None)
                if window is None:
                    return None
                if number < done:
                    return _Prepared(window, [], 0, 0)
                return _Prepared(window, *self._encoder.prepare(window.inputs))

            number, pending = 0, reader.submit(prepare, 0)
            while (prepared := pending.result()) is not None:
                number += 1
                pending = reader.submit(prepare, number)
                yield prepared

    def _windows(self) -> Iterator[Window]:
        return gather_windows(self._chunks(), self._columns, self._options.window)

    def _chunks(self) -> Iterator[Chunk]:
        for source in self._sources:
            for chunk in source.chunks(self._columns, self._options.window):
                if chunk.problems and not self._options.skip_bad:
                    raise DataError(str(chunk.problems[0]))
                yield chunk

    def _embed(
        self, prepared: _Prepared, advance: Callable[[int], object]
    ) -> tuple[pa.Table, Note]:
        """Rows of a part with their vectors, and what is noted of it."""
        window = prepared.window
        vectors, failed = self._encoder.embed(prepared.ids, advance)
        problems = [
            Problem(*window.places[place], reason, "not embedded")
            for place, reason in sorted(failed.items())
        ]
        if problems and not self._options.skip_bad:
            raise DataError(str(problems[0]))
        for problem in (*window.problems, *problems):
            self._report(problem)
        kept = _without(len(window.inputs), list(failed))
        chosen = rows_at(window.rows, kept.tolist()) if failed else window.rows
        flat = pa.array(vectors[kept].ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, self._encoder.dimensions)
        rows = chosen.append_column(self._added, column)
        note = Summary(
            len(kept),
            sum(len(prepared.ids[place]) for place in kept),
            prepared.truncated,
            prepared.unknown,
            Counter(problem.kind for problem in (*window.problems, *problems)),
        ).to_note()
        return rows, {**note, "failed": sorted(failed)}

    def _check_part(self, parts: Parts, number: int, window: Window) -> None:
        """A part must have been made of the same records."""
        kept = _without(len(window.inputs), parts.note(number)["failed"])
        rows = parts.rows(number, self._columns.names)
        if not rows.equals(rows_at(window.rows, kept.tolist()).select(self._columns.names)):
            raise DataError(
                f"the input has changed since {parts.directory} was begun (row group {number}): "
                "remove the directory to begin anew"
            )


def _without(count: int, places: Sequence[int]) -> np.ndarray:
    """Numbers below ``count`` but for ``places``, int64."""
    kept: np.ndarray = np.delete(np.arange(count), list(places))
    return kept


def _finished(note: Note) -> Summary:
    fields: dict[str, Any] = {name: note[name] for name in ("texts", "tokens", "truncated")}
    unknown = note.get("unknown", 0)
    return Summary(**fields, unknown=unknown, skipped=Counter(note["skipped"]))
