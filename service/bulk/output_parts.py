"""What a run has finished, on disk: a part for each window, and at the end one file.

Parts are complete Parquet files, written beside the output, synchronised and then renamed, so a
run that is killed at any moment leaves nothing half done. ``finish`` copies them, row group by row
group, into one file that appears under its name all at once.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.common.directories import check_parent
from osa.model.common.model_files import parse_json
from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.service.bulk.part_directory import TEMPORARY, PartDirectory

JOB, LOCK, PARTS, MADE = "job.json", "lock", "part-*.parquet", "output.parquet"
PART = re.compile(r"part-\d{6,}\.parquet")
LEFT = re.compile(rf"({PART.pattern}|{re.escape(MADE)}|{re.escape(JOB)}){re.escape(TEMPORARY)}")
"""Names of files that a run leaves which is killed."""
KEY = b"osa"
"""Metadata of a file: what made it, as JSON."""
Note = dict[str, Any]
COUNTS = ("texts", "tokens", "truncated")


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
                job, or it still runs; or what is there is somebody else's.
        """
        self.output, self.directory = output, directory_of(output)
        self._job = json.loads(json.dumps(job))
        self.count = 0
        check_untouched(output, resume)
        self._files, self._lock = _locked(self.directory)
        self._ours = False
        try:
            while self._files.has(_name(self.count)):
                self.count += 1
            _check_gaps(self.directory, self._files.names(), self.count)
            self._ours = True
            if self.count and self._files.has(JOB):
                _compare(self.directory, _read_job(self._files), self._job)
            else:  # nothing is finished: whatever was begun here may be another job
                content = json.dumps(self._job).encode()
                self._files.write(JOB, lambda file: file.write(content))
        except BaseException:
            self.close()
            raise

    def note(self, number: int) -> Note:
        """What was noted of a part.

        Raises:
            DataError: The part is damaged.
        """
        note: Note = self._read(number, _counted)
        return note

    def rows(self, number: int, columns: list[str]) -> pa.Table:
        """These columns of a part [n].

        Raises:
            DataError: The part is damaged.
        """
        return self._read(number, lambda part: part.read(columns).replace_schema_metadata())

    def append(self, rows: pa.Table, note: Note) -> None:
        """Write the next part, whole or not at all."""
        rows = rows.replace_schema_metadata({KEY: json.dumps(note).encode()})
        self._files.write(_name(self.count), lambda file: pq.write_table(rows, file))
        self.count += 1

    def finish(self, schema: pa.Schema, note: Note) -> None:
        """Make the output of all parts, with the schema's metadata, and remove them."""
        own = {**(schema.metadata or {}), KEY: json.dumps(note).encode()}
        schema = schema.with_metadata(own)

        def copy(file: BinaryIO) -> None:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for number in range(self.count):
                    self._read(number, lambda part: _copy(part, writer, schema))

        self._files.write(MADE, copy)
        self._files.publish(MADE, self.output)
        self.abandon()

    def abandon(self) -> None:
        """Leave no part, since none of them holds a text."""
        self._files.remove(map(_name, range(self.count)))
        self.count = 0

    def close(self) -> None:
        """Give the lock back and leave the parts; a directory without any goes too."""
        empty = self._ours and not self.count
        with self._lock:
            try:
                if empty:
                    _clear(self._files)
            finally:
                self._files.close(remove=empty)

    def _read(self, number: int, use: Callable[[pq.ParquetFile], Any]) -> Any:
        path = self.directory / _name(number)
        with self._files.open(_name(number)) as file:
            try:
                with pq.ParquetFile(file) as part:
                    return use(part)
            except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path} is damaged: {error}; remove the directory") from error


def directory_of(output: Path) -> Path:
    """Where the parts of ``output`` are."""
    return output.with_name(output.name + ".partial")


def check_untouched(output: Path, resume: bool) -> None:
    """Refuse to begin where something is.

    Raises:
        ConfigError: There is the output, or parts of an unfinished run, and nothing is to be
            resumed; or nothing can be written there, or only through a link.
    """
    directory = directory_of(output)
    if output.is_dir():
        raise ConfigError(f"{output} is a directory, it must be a file")
    for path in (output, directory):
        if path.is_symlink():
            raise ConfigError(f"{path} is a link, which is not followed: remove it")
    check_parent(output)
    if not resume and output.exists():
        raise ConfigError(f"{output} exists: remove it, or choose another --output")
    if not resume and directory.is_dir() and any(directory.glob(PARTS)):
        raise ConfigError(
            f"{directory} holds an unfinished run: --resume goes on with it, or remove it"
        )


def discard(output: Path, job: Note) -> None:
    """Remove parts that a run of this job left which was killed after it had made its output."""
    if not directory_of(output).is_dir() or directory_of(output).is_symlink():
        return
    files, lock = _locked(directory_of(output))
    own = False
    with lock:
        try:
            own = not files.has(JOB) or _read_job(files) == json.loads(json.dumps(job))
            if own:
                files.remove(name for name in files.names() if PART.fullmatch(name))
                _clear(files)
        finally:
            files.close(remove=own)


def read_note(file: pq.ParquetFile) -> Note:
    """What made a file; empty where another program did.

    Raises:
        ValueError: Nobody can read it.
    """
    note = parse_json((file.schema_arrow.metadata or {}).get(KEY, b"{}"))
    if not isinstance(note, dict):
        raise ValueError("its note is no object")
    return note


def find_finished(output: Path) -> Note:
    """What made ``output``.

    Raises:
        ConfigError: It is no Parquet file, or its note is damaged.
    """
    refusal = f"{output} exists and is no output of osa embed"
    try:
        regular = stat.S_ISREG(output.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{refusal}: {error}") from error
    if not regular:
        raise ConfigError(f"{output} exists and is not a regular file")
    try:
        with pq.ParquetFile(output) as file:
            note = read_note(file)
        if "job" in note:
            _check_counts(note)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{refusal}: {error}") from error
    return note


def _locked(directory: Path) -> tuple[PartDirectory, IO[bytes]]:
    """A directory of parts and the lock on it."""
    files = PartDirectory(directory)
    try:
        return files, files.lock(LOCK)
    except BaseException:
        files.close()
        raise


def _name(number: int) -> str:
    return PARTS.replace("*", f"{number:06d}")


def _counted(part: pq.ParquetFile) -> Note:
    """A part's note, which has what a summary adds up."""
    note = read_note(part)
    _check_counts(note)
    return {**note, "skipped": dict(note["skipped"]), "failed": list(note["failed"])}


def _check_counts(note: Note) -> None:
    if not all(isinstance(note[name], int) for name in COUNTS):
        raise ValueError("its note has no counts")
    if not all(isinstance(count, int) for count in dict(note["skipped"]).values()):
        raise ValueError("its note has no counts of what was skipped")


def _copy(part: pq.ParquetFile, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
    for group in range(part.num_row_groups):
        rows = part.read_row_group(group).replace_schema_metadata()
        writer.write_table(rows.cast(schema))


def _clear(files: PartDirectory) -> None:
    """Remove what a run leaves besides its parts, and nothing else."""
    left = [name for name in files.names() if LEFT.fullmatch(name)]
    files.remove([*left, MADE, JOB, LOCK])


def _check_gaps(directory: Path, names: list[str], count: int) -> None:
    parts = [name for name in names if PART.fullmatch(name)]
    if len(parts) > count:
        raise ConfigError(
            f"{directory} holds {parts[-1]}, but not all before it: remove the directory"
        )


def _read_job(files: PartDirectory) -> Note:
    with files.open(JOB) as file:
        try:
            job = parse_json(file.read())
        except ValueError:
            job = None
    if not isinstance(job, dict):
        raise ConfigError(f"{files.path / JOB} is damaged: remove the directory")
    return job


def _compare(directory: Path, begun: Note, job: Note) -> None:
    for name in sorted(begun.keys() | job.keys()):
        if begun.get(name) != job.get(name):
            raise ConfigError(
                f"{directory} was begun with {name} {begun.get(name)}, now it is {job.get(name)}: "
                "run as before, or remove it"
            )
