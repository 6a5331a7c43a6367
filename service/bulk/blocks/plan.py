"""From the input to tasks that can be read apart, and from these to blocks with names.

Both are functions of the input and the options alone, so a run that goes on finds the same blocks.
A block's name holds a digest of its records: what has changed since is another block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa

from osa.model.records.errors import DataError
from osa.model.records.record import Problem
from osa.service.bulk.inputs.sources import Inputs
from osa.service.bulk.windows import Chunk, Piece, Source, Window, WindowLimits, gather_windows

PIECE_BYTES = 64 << 20
"""Default of how much a task reads, about [bytes]."""


@dataclass(frozen=True)
class ReadTask:
    """Consecutive records that one reader reads.

    Attributes:
        number: Its place among all tasks.
        slices: Numbers of files, and their pieces; no file twice.
    """

    number: int
    slices: tuple[tuple[int, Piece], ...]


def plan_tasks(sources: Sequence[Source], size: int = PIECE_BYTES) -> list[ReadTask]:
    """All of the input, in order, in tasks of about ``size`` bytes.

    Raises:
        DataError: A file is damaged.
        ConfigError: It cannot be opened.
    """
    tasks: list[ReadTask] = []
    held: list[tuple[int, Piece]] = []

    def close() -> None:
        if held:
            tasks.append(ReadTask(len(tasks), tuple(held)))
            held.clear()

    for number, source in enumerate(sources):
        for piece in source.pieces(size):
            if any(sources[one].file == source.file for one, _ in held):
                close()
            held.append((number, piece))
            if sum(one.size for _, one in held) >= size:
                close()
    close()
    return tasks


@dataclass(frozen=True)
class BlockReader:
    """What a reader needs to know, wherever it runs.

    Attributes:
        inputs: What is read.
        window: How large a block is.
        skip_bad: Whether bad records are left out.
    """

    inputs: Inputs
    window: WindowLimits
    skip_bad: bool

    def blocks(self, task: ReadTask) -> Iterator[tuple[str, Window]]:
        """The blocks of a task, in order, each with its name.

        Lines of ``places`` and ``problems`` are counted from the beginning of their pieces.

        Raises:
            DataError: A bad record that is not to be skipped, or a damaged file.
        """
        columns = self.inputs.columns
        chunks = chain.from_iterable(
            self.inputs.sources[number].chunks(columns, self.window, piece)
            for number, piece in task.slices
        )
        windows = gather_windows(self._checked(task, chunks), columns, self.window)
        for number, window in enumerate(windows):
            yield f"block-{task.number:06d}-{number:06d}-{digest(window)}.parquet", window

    def place(self, task: ReadTask, problem: Problem) -> Problem:
        """A problem with the line of its file; reads the file up to the piece."""
        return Problem(
            problem.file, self._line(task, problem.file, problem.line), problem.reason, problem.kind
        )

    def _line(self, task: ReadTask, file: Path, line: int) -> int:
        for number, piece in task.slices:
            source = self.inputs.sources[number]
            if source.file == file:
                return line + source.lines_before(piece)
        return line

    def _checked(self, task: ReadTask, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            if chunk.problems and not self.skip_bad:
                raise DataError(str(self.place(task, chunk.problems[0])))
            yield chunk


def digest(window: Window) -> str:
    """A name for what a window holds, 16 characters."""
    found = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, window.rows.schema) as writer:
        writer.write_table(window.rows)
    found.update(sink.getvalue())
    found.update(repr([problem.kind for problem in window.problems]).encode())
    return found.hexdigest()[:16]
