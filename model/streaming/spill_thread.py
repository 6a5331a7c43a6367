"""A thread that writes the rows of one sequence behind its passes, and reads them ahead.

So what computes waits for a disk only where that is slower for longer than what may be held in
memory, and where it has other work it need not wait at all: it is told when to go on. What is asked
for is done in order; a row that is read after it was written is the one that was written.

Shapes: n rows of a chunk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from osa.model.errors import OsaError, SpillError
from osa.model.streaming.spill import SpillFile

HELD = 32 << 20
"""Rows that wait to be written, before what computes has to wait [bytes]."""
KEPT = 4
"""Pieces of memory that are kept for the next rows, so that their pages are touched once."""
Rows = tuple[Shaped[Tensor, "n ..."], ...]
"""Rows of each file, of the same tokens."""


class _Unwanted(Exception):
    """The sequence is given up."""


@dataclass(eq=False)
class _Task:
    """Rows to write, or memory for rows to read."""

    first: int
    rows: Rows
    reads: bool
    done: bool = False

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.rows)


class SpillThread:
    """Files of one sequence and the thread that works on them; used by one other thread."""

    def __init__(
        self,
        kinds: Sequence[tuple[tuple[int, ...], torch.dtype]],
        directory: Path | None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """Open empty files.

        Args:
            kinds: Shape and type of a row of each.
            directory: Where; None for the system's temporary directory.
            wake: Called on the thread when one that was told to come back can go on.

        Raises:
            ConfigError: There is no directory that can be written.
        """
        self._files: list[SpillFile] = []
        try:
            for shape, dtype in kinds:
                self._files.append(SpillFile(shape, dtype, directory))
        except BaseException:
            self._close_files()
            raise
        self._wake = wake
        self._tasks: deque[_Task] = deque()
        self._reads: deque[_Task] = deque()  # asked for and not taken, in order
        self._free: list[list[Tensor]] = [[] for _ in self._files]
        self._waiting_bytes = 0
        self._asleep = self._closed = False
        self._error: OsaError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="osa-spill", daemon=True)
        self._thread.start()

    def write(self, first: int, rows: Rows) -> None:
        """Store rows from ``first`` on; they are this object's from now on.

        Raises:
            SpillError: Something before could not be written or read.
        """
        whole = tuple(part.detach().to("cpu").contiguous() for part in rows)
        self._add(_Task(first, whole, reads=False))

    def ask(self, first: int, count: int) -> None:
        """Begin to read ``count`` rows from ``first`` on; ``take`` gives them.

        Raises:
            SpillError: As for ``write``.
        """
        rows = tuple(self._memory(place, count) for place in range(len(self._files)))
        self._add(_Task(first, rows, reads=True))

    def can_go_on(self, reads: int) -> bool:
        """Whether the first ``reads`` that were asked for are there, and writes have room.

        Where not, ``wake`` is called once that may have changed.
        """
        with self._changed:
            self._asleep = not self._is_free(reads)
            return not self._asleep

    def wait(self, reads: int) -> None:
        """Wait until ``can_go_on``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_free(reads))

    def take(self) -> Rows:
        """The rows that were asked for first; waits for them.

        Raises:
            SpillError: They cannot be read, or something before could not be written.
        """
        rows = self.peek()
        self._reads.popleft()
        return rows

    def peek(self) -> Rows:
        """What ``take`` gives next, left there; raises the same."""
        self.wait(1)
        self._check()
        return self._reads[0].rows

    def release(self, *rows: Tensor | None) -> None:
        """Take back memory of rows of the first files, which nobody uses any more."""
        with self._changed:
            for free, part in zip(self._free, rows, strict=False):
                if part is not None and part.device.type == "cpu" and len(free) < KEPT:
                    free.append(part)

    def close(self) -> None:
        """Give memory and disk back.

        At once where nobody has to be woken; else by the thread, after its call of the system.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._wake is None:
            self._thread.join()

    def _add(self, task: _Task) -> None:
        with self._changed:
            self._check()
            self._tasks.append(task)
            if task.reads:
                self._reads.append(task)
            else:
                self._waiting_bytes += task.bytes
            self._changed.notify_all()

    def _memory(self, place: int, count: int) -> Tensor:
        """Memory of ``count`` rows of a file, used before where there is some."""
        file, rows = self._files[place], None
        with self._changed:
            while self._free[place] and rows is None:
                found = self._free[place].pop()
                rows = found[:count] if len(found) >= count else None
        return torch.empty(count, *file.shape, dtype=file.dtype) if rows is None else rows

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _is_free(self, reads: int) -> bool:
        if self._error is not None or self._closed:
            return True  # whoever comes back is told
        there = all(task.done for _, task in zip(range(reads), self._reads, strict=False))
        return there and self._waiting_bytes <= HELD

    def _run(self) -> None:
        try:
            while (task := self._next()) is not None:
                error = self._work(task)
                self._end(task, error)
        except _Unwanted:
            pass
        finally:
            self._close_files()

    def _next(self) -> _Task | None:
        """The next task; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._tasks) or self._closed)
            return None if self._closed else self._tasks[0]

    def _work(self, task: _Task) -> OsaError | None:
        try:
            for file, part in zip(self._files, task.rows, strict=True):
                work = file.read if task.reads else file.write
                work(task.first, part, self._still_wanted)
        except _Unwanted:
            raise
        except OsaError as error:
            return error
        except Exception as error:  # whoever waits must be told
            return SpillError(f"states of a long text cannot be kept: {error}")
        return None

    def _end(self, task: _Task, error: OsaError | None) -> None:
        if not task.reads:
            self.release(*task.rows)
        with self._changed:
            self._tasks.popleft()
            task.done = True
            if not task.reads:
                self._waiting_bytes -= task.bytes
            self._error = self._error or error
            woken, self._asleep = self._asleep, False
            self._changed.notify_all()
        if woken and self._wake is not None:
            self._wake()

    def _still_wanted(self) -> None:
        if self._closed:
            raise _Unwanted

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
