"""A directory of our own files: written whole or not at all, never through links of others.

Everything goes by the descriptor of the directory, so nobody who exchanges the path is followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, BinaryIO

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError

TEMPORARY = ".tmp"
TEMPORARY_NAME = r"(\.[0-9a-f]{16})?\.tmp"
"""What is added to the name of a file until it is whole; another one by each writer."""


class PartDirectory:
    """An open directory.

    Attributes:
        path: Where it is, for messages.
    """

    def __init__(self, path: Path) -> None:
        """Open the directory, or make it.

        Raises:
            ConfigError: It cannot be made or written, is a link, or belongs to another user.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if path.is_symlink():
                raise ConfigError(f"{path} is a link, which is not followed: remove it")
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._check_owner()
        except BaseException:
            self.close()
            raise

    def _check_owner(self) -> None:
        """Refuse a directory of another user; file systems that map owners say whose ours are."""
        probe = _temporary("probe")
        try:
            with os.fdopen(self._create(probe), "wb") as file:
                ours = os.fstat(file.fileno()).st_uid
            self.remove([probe])
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}") from error
        if os.fstat(self._handle).st_uid not in (ours, os.geteuid()):
            raise ConfigError(f"{self.path} belongs to another user: choose another --output")

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._handle)

    def names(self) -> list[str]:
        """Names of all that is in it, sorted."""
        return sorted(os.listdir(self._handle))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def open(self, name: str) -> BinaryIO:
        """A file to read.

        Raises:
            DataError: There is no such file.
        """
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.fdopen(os.open(name, flags, dir_fd=self._handle), "rb")
        except OSError as error:
            raise DataError(f"cannot read {self.path / name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise DataError(f"{self.path / name} is not a regular file")
        return file

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make a file that appears under its name once it is on disk.

        Raises:
            DataError: It cannot be written, as on a full disk.
        """
        temporary = _temporary(name)
        try:
            with os.fdopen(self._create(temporary), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            os.fsync(self._handle)
        except OSError as error:
            raise DataError(f"cannot write {self.path / name}: {error}") from error
        finally:
            self.remove([temporary])

    def make(self, name: str, output: Path, write: Callable[[BinaryIO], object]) -> None:
        """Let ``write`` make ``output``, by way of a file of this name; nothing is replaced.

        Raises:
            ConfigError: There is something by now.
            DataError: It cannot be written.
        """
        self.write(name, write)
        self.publish(name, output)

    def publish(self, name: str, output: Path) -> None:
        """Move a file to ``output``, where nothing is replaced.

        Raises:
            ConfigError: There is something by now.
            DataError: It cannot be moved.
        """
        try:
            try:
                os.link(name, output, src_dir_fd=self._handle, follow_symlinks=False)
                self.remove([name])
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if os.path.lexists(output):
                    raise FileExistsError from None
                os.replace(name, output, src_dir_fd=self._handle)
            _synchronise(output.parent)
        except FileExistsError:
            raise ConfigError(f"{output} exists by now: remove it, and --resume goes on") from None
        except OSError as error:
            raise DataError(f"cannot write {output}: {error.strerror}") from error

    def lock(self, name: str) -> IO[bytes]:
        """A lock that ends with the process.

        Raises:
            ConfigError: Another process holds it, or has just removed the directory.
        """
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.fdopen(os.open(name, flags, 0o600, dir_fd=self._handle), "wb")
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
            if os.fstat(file.fileno()).st_ino != there.st_ino:
                raise OSError("the file that is locked is no longer there")
        except OSError:
            file.close()
            raise ConfigError(f"another process works on {self.path}") from None
        return file

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._handle)

    def close(self, remove: bool = False) -> None:
        """Close it; ``remove`` it where nothing is left in it."""
        if remove and not self.path.is_symlink():
            with contextlib.suppress(OSError):  # not empty, or gone
                self.path.rmdir()
        os.close(self._handle)


def _temporary(name: str) -> str:
    return f"{name}.{secrets.token_hex(8)}{TEMPORARY}"


def _synchronise(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
