"""Paths of local files and of objects elsewhere: ``s3://``, ``gs://``, ``http://`` and the like.

What is elsewhere is reached by fsspec, through ``universal_pathlib``, whose paths have the methods
of ``pathlib.Path``. It needs the extra ``remote``.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from osa.model.common.requirements import is_installed
from osa.model.errors import ConfigError, first_line

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
WEB = ("http", "https")
"""Whose servers list no directories."""
AHEAD, PAGE = 8 << 20, 1 << 20
"""How much is fetched at once of an object that is read in order; of one that is not [bytes]."""
Result = TypeVar("Result")


def to_path(name: str | Path) -> Path:
    """A path of this name: a ``Path``, or of an address one with the same methods.

    Raises:
        ConfigError: An address whose packages are not installed, or of an unknown kind.
    """
    found = SCHEME.fullmatch(str(name))
    if found is None:
        return Path(name)
    if found[1] == "file":
        return Path(found[2])
    if not is_installed("upath"):
        raise ConfigError(f"{name} needs universal_pathlib: pip install 'osa-encoder[remote]'")
    from upath import UPath

    try:
        path: Any = UPath(str(name))
        path.fs  # noqa: B018  imports the packages of this kind
    except ImportError as error:
        hint = "pip install 'osa-encoder[remote]'"
        raise ConfigError(f"{name} needs more packages: {hint} ({first_line(error)})") from error
    except ValueError as error:
        raise ConfigError(f"{name} is no address that can be read: {first_line(error)}") from error
    result: Path = path
    return result


def is_remote(path: Path) -> bool:
    """Whether a path of ``to_path`` is an address."""
    return not isinstance(path, Path)


def is_directory(path: Path) -> bool:
    """Whether something at the path holds files; on the web nothing does.

    Raises:
        OSError: Nobody answers, or not to us.
    """
    if not is_remote(path):
        return path.is_dir()
    return path.protocol not in WEB and attempt(path.is_dir)  # type: ignore[attr-defined]


def size_of_file(path: Path) -> int | None:
    """Size of a regular file, or of an object that tells it [bytes]; None of anything else."""
    if not is_remote(path):
        return path.stat().st_size if path.is_file() else None
    remote: Any = path
    size = attempt(lambda: remote.fs.info(remote.path).get("size"))
    return None if size is None else int(size)


def open_binary(path: Path, scattered: bool = False) -> io.BufferedReader:
    """A file or an object, to read.

    Args:
        path: From ``to_path``.
        scattered: Whether it is not read in order.

    Raises:
        OSError: It cannot be opened; ``strerror`` says why.
    """
    if not is_remote(path):
        return path.open("rb")
    remote: Any = path
    cache: dict[str, Any] = {"cache_type": "readahead", "block_size": AHEAD}
    if scattered:
        cache = {"cache_type": "blockcache", "block_size": PAGE}
    return io.BufferedReader(_Remote(attempt(lambda: remote.fs.open(remote.path, "rb", **cache))))


def attempt(call: Callable[[], Result]) -> Result:
    """The result of a call to a file system elsewhere, each of which has errors of its own.

    Raises:
        OSError: With a reason in ``strerror``.
    """
    try:
        return call()
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error) or type(error).__name__
        raise OSError(getattr(error, "errno", None) or errno.EIO, reason) from error


class _Remote(io.RawIOBase):
    """An object as the raw stream of a ``BufferedReader``; its errors are all ``OSError``."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(attempt(lambda: self._file.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        data = attempt(lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
