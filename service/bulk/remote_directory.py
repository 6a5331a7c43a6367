"""A prefix of an object store as a directory of our own files.

An object appears once it is whole, so a writer that is killed leaves nothing; there are no locks.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.paths import attempt, open_binary


class RemoteDirectory:
    """What lies under a prefix.

    Attributes:
        path: The prefix, from ``paths.to_path``.
    """

    def __init__(self, path: Path) -> None:
        """Take a prefix; nothing is asked of the store."""
        self.path = path
        remote: Any = path
        self._store, self._prefix = remote.fs, str(remote.path).rstrip("/")

    def names(self) -> list[str]:
        """Names of all that is in it, sorted.

        Raises:
            OSError: The store does not answer, or not to us.
        """
        self._store.invalidate_cache(self._prefix)
        try:
            found = attempt(lambda: self._store.ls(self._prefix, detail=False))
        except FileNotFoundError:
            return []
        return sorted({str(one).rstrip("/").rpartition("/")[2] for one in found})

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""
        self._store.invalidate_cache(self._prefix)
        return attempt(lambda: bool(self._store.isfile(self._at(name))))

    def open(self, name: str) -> BinaryIO:
        """An object to read.

        Raises:
            DataError: There is no such object.
        """
        try:
            return open_binary(self.path / name, scattered=True)
        except OSError as error:
            raise DataError(f"cannot read {self.path / name}: {error.strerror}") from error

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make an object, which appears once it is whole.

        Raises:
            DataError: It cannot be written.
        """
        self._write(self._at(name), self.path / name, write)

    def make(self, name: str, output: Path, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make ``output``; nothing is replaced.

        Raises:
            ConfigError: There is something by now.
            DataError: It cannot be written.
        """
        remote: Any = output
        if attempt(output.exists):
            raise ConfigError(f"{output} exists by now: remove it, and --resume goes on")
        self._write(str(remote.path), output, write)

    def lock(self, name: str) -> IO[bytes]:
        """Nothing: runs on one output at the same time write the same, and disturb nobody."""
        return io.BytesIO()

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects that are there."""
        there = set(self.names())
        found = [self._at(name) for name in names if name in there]
        if found:
            with contextlib.suppress(FileNotFoundError):
                attempt(lambda: self._store.rm(found))

    def close(self, remove: bool = False) -> None:
        """Nothing: a prefix without objects is none."""

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _write(self, place: str, path: Path, write: Callable[[BinaryIO], object]) -> None:
        try:
            file = attempt(lambda: self._store.open(place, "wb", autocommit=False))
            try:
                write(file)
                attempt(file.close)
            except BaseException:
                with contextlib.suppress(Exception):
                    file.discard()
                file.closed = True  # so that nothing is sent when it is collected
                raise
            attempt(file.commit)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}") from error
