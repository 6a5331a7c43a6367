"""Unpacks a tar archive of a model into a directory: whole, or not at all.

The archive is unpacked beside what is there, which is replaced when all of it is good;
``.complete`` is written last, and says what there is. Files and folders only: no links, nothing
outside of the directory, nothing twice, and no more bytes than a limit.

Needs only the standard library of Python 3.11.0: Debian 12 has 3.11.2, without tarfile's filters.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

CHUNK = 1 << 20
MOST_MEMBERS = 10_000
ARCHIVE, COMPLETE, STAGING = ".archive", ".complete", ".unpacking-"


class FetchError(Exception):
    """The model cannot be downloaded or unpacked."""


def replace_content(file: IO[bytes], source: str, sha256: str, limit: int, directory: Path) -> None:
    """Unpack an archive, and put its content in the place of a directory's.

    Args:
        file: The archive.
        source: Its name in messages.
        sha256: Its digest, for ``is_complete``.
        limit: Most bytes of all files together.
        directory: What was there stays if the archive is refused.

    Raises:
        FetchError: It is no archive, or has members that a model has not.
    """
    for left in directory.glob(f"{STAGING}*"):  # by a container that was killed
        shutil.rmtree(left)
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
    try:
        sizes = unpack(file, source, staging, limit)
        publish(staging, directory, {"sha256": sha256, "files": sizes})
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_complete(directory: Path, sha256: str) -> bool:
    """Whether this archive's content is there: ``.complete`` says so, and its files have sizes."""
    try:
        there = json.loads((directory / COMPLETE).read_text())
        return bool(there["sha256"] == sha256) and all(
            (directory / name).stat().st_size == size for name, size in there["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def publish(staging: Path, directory: Path, about: dict[str, Any]) -> None:
    """Replace the content of a directory; one that is interrupted is not complete."""
    (directory / COMPLETE).unlink(missing_ok=True)
    sync(directory)
    for old in list(directory.iterdir()):
        if old.name in (ARCHIVE, staging.name, "lost+found"):
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    for new in list(staging.iterdir()):
        new.rename(directory / new.name)
    sync(directory)
    written = directory / f"{COMPLETE}.new"
    with written.open("w") as file:
        json.dump(about, file)
        file.flush()
        os.fsync(file.fileno())
    written.rename(directory / COMPLETE)
    sync(directory)


def sync(directory: Path) -> None:
    """Make renames and removals in a directory durable."""
    place = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def unpack(file: IO[bytes], source: str, directory: Path, limit: int) -> dict[str, int]:
    """Unpack an archive into an empty directory, member by member; returns sizes by name.

    Args:
        file: The archive.
        source: Its name in messages.
        directory: An empty directory.
        limit: Most bytes of all files together.

    Raises:
        FetchError: It is no archive, or has members that a model has not.
    """
    sizes: dict[str, int] = {}
    left = limit
    try:
        with tarfile.open(fileobj=file, mode="r|*") as members:
            for number, member in enumerate(members):
                name = checked_name(member, source)
                if number >= MOST_MEMBERS:
                    raise FetchError(f"{source} has more than {MOST_MEMBERS} files and folders")
                target = directory / name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise FetchError(
                        f"{source} and its content are larger than the limit (model.sizeLimit)"
                    )
                if name in sizes:
                    raise FetchError(f"{source} holds {name!r} twice")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(member)
                assert content is not None  # it is a regular file
                with target.open("xb") as written:
                    shutil.copyfileobj(content, written, CHUNK)
                    written.flush()
                    os.fsync(written.fileno())
                if target.stat().st_size != member.size:
                    raise FetchError(f"{source} ends within {name!r}")
                sizes[name] = member.size
    except (tarfile.TarError, EOFError, ValueError, MemoryError) as error:
        problem = "it takes too much memory" if isinstance(error, MemoryError) else str(error)
        raise FetchError(f"{source} is no tar archive that can be unpacked: {problem}") from error
    if not sizes:
        raise FetchError(f"{source} is no tar archive that can be unpacked: it holds no file")
    return sizes


def checked_name(member: tarfile.TarInfo, source: str) -> str:
    """Path of a member below the directory.

    Raises:
        FetchError: It is a link or a device, leaves the directory, or is one of our own files.
    """
    path = PurePosixPath(member.name)
    first = path.parts[0] if path.parts else ""
    if path.is_absolute() or ".." in path.parts:
        why = "leaves the directory"
    elif member.issym() or member.islnk():
        why = "is a link: pack with tar --dereference --hard-dereference"
    elif not (member.isreg() or member.isdir()) or member.size < 0:
        why = "is neither a file nor a folder"
    elif first.startswith((ARCHIVE, COMPLETE, STAGING)):
        why = "has a name of this program's own files"
    else:
        return str(path)
    raise FetchError(
        f"{source} is no tar archive that can be unpacked: its member {member.name!r} {why}"
    )
