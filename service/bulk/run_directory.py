"""What a run keeps beside its output until that is made: a job, a lock, and what is finished."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.common.directories import check_parent
from osa.model.common.model_files import parse_json
from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.paths import WEB, attempt, is_remote, open_binary
from osa.service.bulk.part_directory import TEMPORARY_NAME, PartDirectory
from osa.service.bulk.remote_directory import RemoteDirectory

JOB, LOCK, MADE = "job.json", "lock", "output.parquet"
PART, BLOCK = r"part-\d{6,}\.parquet", r"block-\d{6,}-\d{6,}-[0-9a-f]{16}\.parquet"
"""Files of a run in one process, numbered in order; of a run on workers."""
FINISHED = re.compile(rf"{PART}|{BLOCK}")
LEFT = re.compile(rf"({PART}|{BLOCK}|{re.escape(MADE)}|{re.escape(JOB)}|probe){TEMPORARY_NAME}")
"""Names of files that a run leaves which is killed."""
KEY = b"osa"
"""Metadata of a file: what made it, as JSON."""
Note = dict[str, Any]
COUNTS = ("texts", "tokens", "truncated")
GROUP_BYTES = 128 << 20
"""About so much memory do the rows of a row group take, at most, in which all is that repeats."""
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What reading a damaged file raises."""


class Files(Protocol):
    """A directory of files that are written whole or not at all."""

    path: Path

    def names(self) -> list[str]:
        """Names of all that is in it, sorted."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def open(self, name: str) -> BinaryIO:
        """A file to read."""

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make a file that appears under its name once it is whole."""

    def make(self, name: str, output: Path, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make the output, by way of a file of this name; nothing is replaced."""

    def lock(self, name: str) -> IO[bytes]:
        """A lock that ends with the process."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are there."""

    def close(self, remove: bool = False) -> None:
        """Close it; ``remove`` it where nothing is left in it."""


def open_files(path: Path) -> Files:
    """The directory at a path, which is made where there is none.

    Raises:
        ConfigError: It cannot be made or written, is a link, or belongs to another user.
    """
    return RemoteDirectory(path) if is_remote(path) else PartDirectory(path)


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
    if is_remote(output):
        if output.protocol in WEB:  # type: ignore[attr-defined]
            raise ConfigError(f"{output} cannot be written: servers of the web are read alone")
        try:
            found = attempt(output.exists), _has_finished(directory)
        except OSError as error:
            raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    else:
        if output.is_dir():
            raise ConfigError(f"{output} is a directory, it must be a file")
        for path in (output, directory):
            if path.is_symlink():
                raise ConfigError(f"{path} is a link, which is not followed: remove it")
        check_parent(output)
        found = output.exists(), _has_finished(directory)
    if not resume and found[0]:
        raise ConfigError(f"{output} exists: remove it, or choose another --output")
    if not resume and found[1]:
        raise ConfigError(
            f"{directory} holds an unfinished run: --resume goes on with it, or remove it"
        )


def _has_finished(directory: Path) -> bool:
    if is_remote(directory):
        return any(map(FINISHED.fullmatch, RemoteDirectory(directory).names()))
    return directory.is_dir() and any(FINISHED.fullmatch(one.name) for one in directory.iterdir())


def discard(output: Path, job: Note) -> None:
    """Remove parts that a run of this job left which was killed after it had made its output."""
    directory = directory_of(output)
    if not is_remote(directory) and (not directory.is_dir() or directory.is_symlink()):
        return
    files, lock = locked(directory)
    own = False
    with lock:
        try:
            own = not files.has(JOB) or read_job(files) == json.loads(json.dumps(job))
            if own:
                files.remove(name for name in files.names() if FINISHED.fullmatch(name))
                clear(files)
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
        regular = is_remote(output) or stat.S_ISREG(output.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{refusal}: {error}") from error
    if not regular:
        raise ConfigError(f"{output} exists and is not a regular file")
    try:
        with open_binary(output, scattered=True) as stream, pq.ParquetFile(stream) as file:
            note = read_note(file)
        if "job" in note:
            _check_counts(note)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{refusal}: {error}") from error
    return note


def locked(directory: Path) -> tuple[Files, IO[bytes]]:
    """A directory of parts and the lock on it."""
    files = open_files(directory)
    try:
        return files, files.lock(LOCK)
    except BaseException:
        files.close()
        raise


def read_file(files: Files, name: str, use: Callable[[pq.ParquetFile], Any]) -> Any:
    """What ``use`` finds in a finished file.

    Raises:
        DataError: It is damaged.
    """
    with files.open(name) as file:
        try:
            with pq.ParquetFile(file) as part:
                return use(part)
        except DAMAGE as error:
            path = files.path / name
            raise DataError(f"{path} is damaged: {error}; remove the directory") from error


def write_rows(files: Files, name: str, rows: pa.Table, note: Note) -> None:
    """Write a finished file, with a note of what made it.

    Args:
        files: Where.
        name: Under which name.
        rows: Its content.
        note: What made it, as JSON.
    """
    own = {**(rows.schema.metadata or {}), KEY: json.dumps(note).encode()}
    rows = rows.replace_schema_metadata(own)

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
            for group in _row_groups(rows):
                writer.write_table(group)

    files.write(name, write)


def _row_groups(rows: pa.Table) -> Iterator[pa.Table]:
    """Consecutive rows that together are no larger than a group may be, or one row."""
    if rows.num_rows <= 1 or rows.nbytes <= GROUP_BYTES:
        yield rows
        return
    half = rows.num_rows // 2
    yield from _row_groups(rows.slice(0, half))
    yield from _row_groups(rows.slice(half))


def begin(files: Files, job: Note, finished: bool) -> None:
    """Compare what is finished with this job, or where nothing is, note it.

    Raises:
        ConfigError: Another job was begun here.
    """
    if finished and files.has(JOB):
        compare(files.path, read_job(files), job)
    else:  # nothing is finished: whatever was begun here may be another job
        content = json.dumps(job).encode()
        files.write(JOB, lambda file: file.write(content))


def counted(part: pq.ParquetFile) -> Note:
    """A part's note, which has what a summary adds up."""
    note = read_note(part)
    _check_counts(note)
    return {**note, "skipped": dict(note["skipped"]), "failed": list(note["failed"])}


def _check_counts(note: Note) -> None:
    if not all(isinstance(note[name], int) for name in COUNTS):
        raise ValueError("its note has no counts")
    if not all(isinstance(count, int) for count in dict(note["skipped"]).values()):
        raise ValueError("its note has no counts of what was skipped")


def copy_groups(part: pq.ParquetFile, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
    """Write the row groups of a part to the output."""
    for group in range(part.num_row_groups):
        rows = part.read_row_group(group).replace_schema_metadata()
        writer.write_table(rows.cast(schema))


def clear(files: Files) -> None:
    """Remove what a run leaves besides its parts, and nothing else."""
    left = [name for name in files.names() if LEFT.fullmatch(name)]
    files.remove([*left, MADE, JOB, LOCK])


def read_job(files: Files) -> Note:
    """What the directory was begun with.

    Raises:
        ConfigError: Nobody can read it.
    """
    with files.open(JOB) as file:
        try:
            job = parse_json(file.read())
        except ValueError:
            job = None
    if not isinstance(job, dict):
        raise ConfigError(f"{files.path / JOB} is damaged: remove the directory")
    return job


def compare(directory: Path, begun: Note, job: Note) -> None:
    """Refuse to go on with another job.

    Raises:
        ConfigError: What has changed.
    """
    for name in sorted(begun.keys() | job.keys()):
        if begun.get(name) != job.get(name):
            raise ConfigError(
                f"{directory} was begun with {name} {begun.get(name)}, now it is {job.get(name)}: "
                "run as before, or remove it"
            )
