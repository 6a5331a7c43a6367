"""What a run has finished, on disk: a part for each window, and at the end one file.

Parts are complete Parquet files, written beside the output, synchronised and then renamed, so a
run that is killed at any moment leaves nothing half done. ``finish`` copies them, row group by row
group, into one file that appears under its name all at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.common.directories import check_parent
from osa.model.errors import ConfigError, OsaError
from osa.model.records.errors import DataError

JOB, LOCK, PARTS = "job.json", "lock", "part-*.parquet"
KEY = b"osa"
"""Metadata of a file: what made it, as JSON."""
Note = dict[str, Any]


class Parts:
    """The parts of one run, which holds a lock on them.

    Attributes:
        output: The file that they become.
        directory: Where they are until then.
        count: How many there are.
    """

    def __init__(self, output: Path, job: Note, resume: bool) -> None:
        """Begin a run, or go on with one that was killed.

        Args:
            output: The file that the parts become.
            job: What decides the vectors; must be the same in a run that goes on.
            resume: Whether to go on.

        Raises:
            ConfigError: There is an unfinished run and it is not to be resumed, or it was another
                job, or it still runs.
        """
        self.output, self.directory = output, directory_of(output)
        self._job = json.loads(json.dumps(job))
        self.count = 0
        begun = self.directory / JOB
        check_untouched(output, resume)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write {self.directory}: {error.strerror}") from error
        self._lock = _lock(self.directory / LOCK)
        while self._path(self.count).exists():
            self.count += 1
        try:
            if self.count and begun.exists():
                _compare(self.directory, json.loads(begun.read_text(encoding="utf-8")), self._job)
            else:  # nothing is finished: whatever was begun here may be another job
                _write(begun, lambda path: path.write_text(json.dumps(self._job), encoding="utf-8"))
        except OsaError:
            self.close()
            raise

    def _path(self, number: int) -> Path:
        return self.directory / PARTS.replace("*", f"{number:06d}")

    def note(self, number: int) -> Note:
        """What was noted of a part.

        Raises:
            DataError: The part is damaged.
        """
        with _open(self._path(number)) as file:
            return read_note(file)

    def rows(self, number: int, columns: list[str]) -> pa.Table:
        """These columns of a part [n].

        Raises:
            DataError: The part is damaged.
        """
        with _open(self._path(number)) as file:
            return file.read(columns).replace_schema_metadata()

    def append(self, rows: pa.Table, note: Note) -> None:
        """Write the next part, whole or not at all."""
        rows = rows.replace_schema_metadata({KEY: json.dumps(note).encode()})
        _write(self._path(self.count), lambda path: pq.write_table(rows, path))
        self.count += 1

    def finish(self, schema: pa.Schema, note: Note) -> None:
        """Make the output of all parts, and remove them."""
        schema = schema.with_metadata({KEY: json.dumps(note).encode()})

        def copy(path: Path) -> None:
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for number in range(self.count):
                    with _open(self._path(number)) as part:
                        for group in range(part.num_row_groups):
                            rows = part.read_row_group(group).replace_schema_metadata()
                            writer.write_table(rows.cast(schema))

        made = self.directory / "output.parquet"
        _write(made, copy)
        os.replace(made, self.output)
        _synchronise(self.output.parent)
        self.abandon()

    def abandon(self) -> None:
        """Leave no part, since none of them holds a text."""
        for number in range(self.count):
            self._path(number).unlink(missing_ok=True)
        self.count = 0

    def close(self) -> None:
        """Give the lock back and leave the parts; a directory without any goes too."""
        if not self.count:
            for file in (JOB, LOCK, *(file.name for file in self.directory.glob("*.tmp"))):
                (self.directory / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not ours, or gone
                self.directory.rmdir()
        self._lock.close()


def directory_of(output: Path) -> Path:
    """Where the parts of ``output`` are."""
    return output.with_name(output.name + ".partial")


def check_untouched(output: Path, resume: bool) -> None:
    """Refuse to begin where something is.

    Raises:
        ConfigError: There is the output, or parts of an unfinished run, and nothing is to be
            resumed; or nothing can be written there.
    """
    directory = directory_of(output)
    if output.is_dir():
        raise ConfigError(f"{output} is a directory, it must be a file")
    check_parent(output)
    if not resume and output.exists():
        raise ConfigError(f"{output} exists: remove it, or choose another --output")
    if not resume and directory.is_dir() and any(directory.glob(PARTS)):
        raise ConfigError(
            f"{directory} holds an unfinished run: --resume goes on with it, or remove it"
        )


def discard(output: Path) -> None:
    """Remove parts that a run left which was killed after it had made its output."""
    if directory_of(output).exists():
        shutil.rmtree(directory_of(output))


def read_note(file: pq.ParquetFile) -> Note:
    """What made a file; empty where another program did."""
    note: Note = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}"))
    return note


def find_finished(output: Path) -> Note:
    """What made ``output``.

    Raises:
        ConfigError: It is no Parquet file.
    """
    try:
        with pq.ParquetFile(output) as file:
            return read_note(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{output} exists and is no output of osa embed: {error}") from error


def _compare(directory: Path, begun: Note, job: Note) -> None:
    for name in sorted(begun.keys() | job.keys()):
        if begun.get(name) != job.get(name):
            raise ConfigError(
                f"{directory} was begun with {name} {begun.get(name)}, now it is {job.get(name)}: "
                "run as before, or remove it"
            )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: {error}; remove the directory") from error


def _lock(path: Path) -> IO[str]:
    """A lock that ends with the process.

    Raises:
        ConfigError: Another process holds it, or has just removed the directory.
    """
    try:
        file = path.open("w")
    except OSError as error:
        raise ConfigError(f"cannot write {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise OSError("the file that is locked is no longer there")
    except OSError:
        file.close()
        raise ConfigError(f"another process works on {path.parent}") from None
    return file


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file that appears under its name once it is on disk."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _synchronise(path.parent)


def _synchronise(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
