"""What a run has finished, on disk: a part for each window, and at the end one file.

Parts are complete Parquet files, written beside the output, synchronised and then renamed, so a
run that is killed at any moment leaves nothing half done. ``finish`` copies them, row group by row
group, into one file that appears under its name all at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError
from osa.service.bulk.run_directory import (
    BLOCK,
    KEY,
    MADE,
    PART,
    Note,
    begin,
    check_untouched,
    clear,
    copy_groups,
    counted,
    directory_of,
    locked,
    read_file,
    write_rows,
)


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
        self._files, self._lock = locked(self.directory)
        self._ours = False
        try:
            while self._files.has(_name(self.count)):
                self.count += 1
            _check_gaps(self.directory, self._files.names(), self.count)
            self._ours = True
            begin(self._files, self._job, bool(self.count))
        except BaseException:
            self.close()
            raise

    def note(self, number: int) -> Note:
        """What was noted of a part.

        Raises:
            DataError: The part is damaged.
        """
        note: Note = self._read(number, counted)
        return note

    def read_groups(self, number: int, columns: list[str], use: Callable[[pa.Table], None]) -> None:
        """Let ``use`` see these columns of each row group of a part, one after the other.

        Raises:
            DataError: The part is damaged.
        """

        def read(part: pq.ParquetFile) -> None:
            for group in range(part.num_row_groups):
                use(part.read_row_group(group, columns).replace_schema_metadata())

        self._read(number, read)

    def append(self, rows: pa.Table, note: Note) -> None:
        """Write the next part, whole or not at all."""
        write_rows(self._files, _name(self.count), rows.replace_schema_metadata(), note)
        self.count += 1

    def finish(self, schema: pa.Schema, note: Note) -> None:
        """Make the output of all parts, with the schema's metadata, and remove them."""
        own = {**(schema.metadata or {}), KEY: json.dumps(note).encode()}
        schema = schema.with_metadata(own)

        def copy(file: BinaryIO) -> None:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for number in range(self.count):
                    self._read(number, lambda part: copy_groups(part, writer, schema))

        self._files.make(MADE, self.output, copy)
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
                    clear(self._files)
            finally:
                self._files.close(remove=empty)

    def _read(self, number: int, use: Callable[[pq.ParquetFile], Any]) -> Any:
        return read_file(self._files, _name(number), use)


def _name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _check_gaps(directory: Path, names: list[str], count: int) -> None:
    parts = [name for name in names if re.fullmatch(PART, name)]
    if len(parts) > count:
        raise ConfigError(
            f"{directory} holds {parts[-1]}, but not all before it: remove the directory"
        )
    if any(re.fullmatch(BLOCK, name) for name in names):
        raise ConfigError(f"{directory} was begun with --on ray: run as before, or remove it")
