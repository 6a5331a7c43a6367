"""Files of a model's directory, read with kind and size checked first, without torch.

A directory may come from anywhere. Opening a named pipe waits for ever, a link to an endless device
or a file of holes takes all memory; each is refused here, quickly, before anything is read. What is
refused is an ``OSError`` whose ``strerror`` says what is there, so that callers name the path.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

MIB = 1 << 20
JSON_LIMIT = 16 * MIB
"""Largest description of a model [bytes]."""
TOKENIZER_LIMIT = 256 * MIB
"""Largest vocabulary, and largest file of which nothing else is known [bytes]."""
HEADER_LIMIT = 100_000_000
"""Largest header of safetensors, as the format says [bytes]."""
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
MOST_FILES = 64
"""Most files that a manifest lists."""
MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells a container's limit."""


class UnfitFileError(OSError):
    """A file of another kind or size than a model's."""

    def __init__(self, path: Path, reason: str) -> None:
        """``reason`` follows the path in messages, as ``strerror``."""
        super().__init__(errno.EINVAL, reason, str(path))


class AlteredFileError(ValueError):
    """A file that is not the one that a manifest lists; the message names it."""


def limit_of(name: str) -> int:
    """Largest size of a file of this name [bytes]; weights are bounded by ``check_weights``."""
    if name.endswith(".safetensors"):
        return memory()
    if name.endswith(".json") and "tokenizer.json" not in name and "vocab" not in name:
        return JSON_LIMIT
    return TOKENIZER_LIMIT


@contextmanager
def open_file(path: Path, limit: int | None = None, raw: bool = False) -> Iterator[BufferedReader]:
    """Open a regular file, or a link to one, for reading.

    Args:
        path: The file.
        limit: Largest size [bytes]; default is by the name.
        raw: Leave out ``check_weights``, which ``*.safetensors`` must pass.

    Raises:
        OSError: There is none, it is of another kind or too large, or it cannot be read.
    """
    _check_kind(path, os.stat(path).st_mode)  # some devices act when they are opened
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        _check_kind(path, facts.st_mode)
        largest = limit_of(path.name) if limit is None else limit
        if facts.st_size > largest:
            raise UnfitFileError(path, f"it has {facts.st_size} bytes, allowed are {largest}")
        if path.name.endswith(".safetensors") and not raw:
            check_weights(path, file, facts.st_size)
        yield file


def read_file(path: Path, limit: int | None = None) -> bytes:
    """Content of a regular file; see ``open_file``.

    Raises:
        OSError: As ``open_file``.
    """
    largest = limit_of(path.name) if limit is None else limit
    with open_file(path, largest) as file:
        parts = [file.read(os.fstat(file.fileno()).st_size)]
        room = largest - len(parts[0])
        while room >= 0 and (more := file.read(min(room, MIB) + 1)):  # those of /proc say 0
            parts.append(more)
            room -= len(more)
    if room < 0:
        raise UnfitFileError(path, f"it has more than {largest} bytes")
    return b"".join(parts)


def read_listed(path: Path, size: int, sha256: str, limit: int | None = None) -> bytes:
    """Content of a file that a manifest lists, read once and compared with it.

    Args:
        path: The file.
        size: By the manifest [bytes].
        sha256: By the manifest, in hex.
        limit: Largest size [bytes]; default is by the name.

    Raises:
        AlteredFileError: It has another size or content, or one that no memory here holds.
        OSError: As ``open_file``.
    """
    _check_size(path, size)
    content = read_file(path, min(size, limit_of(path.name) if limit is None else limit))
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise AlteredFileError(f"{path} does not match its sha256 in the manifest")
    return content


def check_listed(path: Path, size: int, sha256: str, limit: int | None = None) -> None:
    """Compare a file with a manifest as ``read_listed`` does, but do not hold it in memory.

    Args:
        path: The file.
        size: By the manifest [bytes].
        sha256: By the manifest, in hex.
        limit: Largest size [bytes]; default is by the name.

    Raises:
        AlteredFileError: As ``read_listed``.
        OSError: As ``open_file``.
    """
    _check_size(path, size)
    largest = min(size, limit_of(path.name) if limit is None else limit)
    with open_file(path, largest, raw=True) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise AlteredFileError(f"{path} does not match its sha256 in the manifest")


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any:
    """The value in a file of JSON.

    Raises:
        OSError: As ``open_file``.
        ValueError: It is not JSON, or nested too deeply.
    """
    return parse_json(read_file(path, limit))


def parse_json(content: bytes | str) -> Any:
    """The value of JSON; nesting that is too deep is a ``ValueError`` as well."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_weights(path: Path, file: BufferedReader, size: int) -> int:
    """Compare a file of safetensors with its own header; returns the number of its tensors.

    Args:
        path: For messages.
        file: Read from its beginning, where it is left.
        size: Of the file [bytes].

    Raises:
        UnfitFileError: The header does not describe a file of this size.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise UnfitFileError(path, "it is not safetensors")
    try:
        header = parse_json(file.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, OverflowError):
        raise UnfitFileError(path, "it is not safetensors: its header is damaged") from None
    if size != 8 + length + end:
        raise UnfitFileError(
            path, f"it has {size} bytes, its header describes {8 + length + end}: copy it again"
        )
    file.seek(0)
    return len(tensors)


def memory() -> int:
    """Memory of the machine or of the container, the smaller of both [bytes]."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in MEMORY:
        try:
            found = min(found, int(file.read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it says max
            continue
    return found


def _check_size(path: Path, size: int) -> None:
    """Refuse a file of another size than listed, or one that fits in no memory here, unread."""
    if size > memory():
        raise AlteredFileError(
            f"{path} has {size} bytes by the manifest, more than the memory here"
        )
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode) and found.st_size != size:
        raise AlteredFileError(f"{path} has {found.st_size} bytes, the manifest says {size}")


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise UnfitFileError(path, f"it is {kind}, not a file")
