"""Lines of the log on their way to standard error, which may be a pipe that nobody reads.

One thread writes. Whoever logs never waits for it: lines beyond ``MAX_BYTES`` are dropped and
counted, and the log says how many as soon as it can. A signal handler or a finalizer may log while
the same thread is in here already: there is one lock, the handler's own, which may be taken again.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import select
import threading
import time
from typing import TextIO

MAX_BYTES = 4_194_304
"""Memory of lines that are not written yet [bytes]."""
GATHER_S = 0.01
"""How long lines are gathered into one write [s]."""
FLUSH_S = 1.0
"""Longest time that the end of the process waits for what is not written [s]."""
DROPPED = "lines of the log were dropped"


class LogWriter(logging.Handler):
    """Writes formatted records to a stream, on a thread of its own.

    Attributes:
        dropped: Lines that were not written, since the start.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Start to write to ``stream``; None, a closed standard error, drops every line."""
        super().__init__()
        self.dropped = self._told = 0
        self._stream, self._file = stream, _file_of(stream)
        self._lines: collections.deque[bytes] = collections.deque()
        self._bytes = self._taken = 0  # of lines in the queue, and of those being written
        self._closed = False
        assert self.lock is not None  # a handler has one from its start
        self._change = threading.Condition(self.lock)
        self._thread = threading.Thread(target=self._run, name="osa-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:
            self.dropped += 1  # a value that cannot be written must not stop a request
            return
        with self._change:
            if self._closed or self._bytes + self._taken + len(line) > MAX_BYTES:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._change.notify_all()

    def flush(self) -> None:
        """Wait until all is written, for at most ``FLUSH_S``."""
        until = time.monotonic() + FLUSH_S
        with self._change:
            while (self._lines or self._taken) and (left := until - time.monotonic()) > 0:
                self._change.wait(left)

    def close(self) -> None:
        """Take no more lines."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        super().close()

    def _run(self) -> None:
        try:
            self._write_lines()
        finally:
            if self._file is not None:
                os.close(self._file)

    def _write_lines(self) -> None:
        """Write what is queued, until the writer is closed and nothing is left."""
        while True:
            with self._change:
                while not self._lines:
                    if self._closed:
                        return
                    self._change.wait()
            if not self._closed:
                time.sleep(GATHER_S)
            fresh: collections.deque[bytes] = collections.deque()
            with self._change:
                lines, self._lines, lost = self._lines, fresh, self.dropped
                self._bytes, self._taken = 0, sum(map(len, lines))
            written = self._write(b"".join(lines))
            if not written:
                self.dropped += len(lines)
            elif lost > self._told:  # after the lines that came before those
                self._tell(lost)
            with self._change:
                self._taken = 0
                self._change.notify_all()

    def _tell(self, lost: int) -> None:
        """Write how many of the ``lost`` lines have not been told of."""
        facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
        record = logging.makeLogRecord({**facts, "msg": DROPPED, "lines": lost - self._told})
        self._told = lost
        self._write((self.format(record) + "\n").encode())

    def _write(self, data: bytes) -> bool:
        """Write all, and wait for the reader; False where there is none any more."""
        try:
            if self._file is None:
                if self._stream is None:
                    return False
                self._stream.write(data.decode())
                self._stream.flush()
                return True
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(self._file, view) :]
                except BlockingIOError:  # a pipe that somebody made non-blocking is full
                    select.select((), (self._file,), ())
        except (OSError, ValueError):  # its reader has gone, or it is closed
            return False
        return True


def dropped_lines() -> int:
    """Lines that the log of this process has lost."""
    handlers = logging.getLogger().handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, LogWriter))


def _file_of(stream: TextIO | None) -> int | None:
    """A descriptor of a stream's file, which is written to without the stream's lock and buffer.

    It is the writer's own: the number of one that is closed may be another file's at once.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            return os.dup(stream.fileno())
    return None
