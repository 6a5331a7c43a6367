"""Blocks that are finished, beside the output, and the output that is made of them.

Blocks appear whole under names that say which they are, so it does not matter who writes them, in
which order, or how often. ``finish`` copies them, in the order of their names, into one file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from osa.model.errors import ConfigError
from osa.service.bulk.run_directory import (
    BLOCK,
    JOB,
    KEY,
    MADE,
    PART,
    Files,
    Note,
    begin,
    check_untouched,
    clear,
    copy_groups,
    counted,
    directory_of,
    locked,
    open_files,
    read_file,
    write_rows,
)


class BlockStore:
    """The blocks of one run, which holds a lock on them where they are local.

    Attributes:
        output: The file that they become.
        directory: Where they are until then.
        done: Names of those that were finished before.
    """

    def __init__(self, output: Path, job: Note, resume: bool) -> None:
        """Begin a run, or go on with one that was killed.

        Args:
            output: The file that the blocks become.
            job: What decides the vectors; must be the same in a run that goes on.
            resume: Whether to go on.

        Raises:
            ConfigError: There is an unfinished run and it is not to be resumed, or it was another
                job, or it still runs; or what is there is somebody else's.
        """
        self.output, self.directory = output, directory_of(output)
        self.done: frozenset[str] = frozenset()
        check_untouched(output, resume)
        self._files, self._lock = locked(self.directory)
        self._ours = False
        try:
            names = self._files.names()
            if any(re.fullmatch(PART, name) for name in names):
                raise ConfigError(
                    f"{self.directory} was begun without --on ray: run as before, or remove it"
                )
            self.done = frozenset(name for name in names if re.fullmatch(BLOCK, name))
            self._ours = True
            begin(self._files, json.loads(json.dumps(job)), bool(self.done))
        except BaseException:
            self.close()
            raise

    def note(self, name: str) -> Note:
        """What was noted of a block.

        Raises:
            DataError: There is no such block, or it is damaged.
        """
        note: Note = read_file(self._files, name, counted)
        return note

    def finish(self, names: Iterable[str], schema: pa.Schema, note: Note) -> None:
        """Make the output of these blocks, in the order of their names, and remove all."""
        ordered = sorted(names)
        own = {**(schema.metadata or {}), KEY: json.dumps(note).encode()}
        schema = schema.with_metadata(own)

        def copy(file: BinaryIO) -> None:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for name in ordered:
                    read_file(self._files, name, lambda part: copy_groups(part, writer, schema))

        self._files.make(MADE, self.output, copy)
        self.abandon()

    def abandon(self) -> None:
        """Leave no block."""
        self._files.remove(name for name in self._files.names() if re.fullmatch(BLOCK, name))

    def close(self) -> None:
        """Give the lock back and leave the blocks; a directory without any goes too."""
        with self._lock:
            empty = False
            try:
                names = self._files.names() if self._ours else []
                empty = self._ours and not any(re.fullmatch(BLOCK, name) for name in names)
                if empty:
                    clear(self._files)
            finally:
                self._files.close(remove=empty)


class BlockWriter:
    """Writes blocks from a worker, on whatever machine it runs."""

    def __init__(self, directory: Path) -> None:
        """Open the directory that the run has made.

        Raises:
            ConfigError: This machine does not see it.
        """
        self._files: Files = open_files(directory)
        if not self._files.has(JOB):
            self._files.close(remove=True)
            raise ConfigError(
                f"a worker does not see {directory}: --output must be on a file system that all "
                "machines share, or in an object store"
            )

    def write(self, name: str, rows: pa.Table, note: Note) -> None:
        """Write a block, whole or not at all."""
        write_rows(self._files, name, rows, note)
