"""The cache of torch's compiler, mended before it is used.

Inductor has the compiler write a library under its final name, and loads whatever is there the next
time. A process that is killed meanwhile leaves an empty or a cut library, with which no process
would start again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from osa.model.common.scratch import no_temporary_directory
from osa.model.errors import ConfigError, OsaError

logger = logging.getLogger(__name__)
ELF = b"\x7fELF"
BUILT = ("*.so", "*.o", "*.gch")
"""What a compiler writes; torch's own entries are renamed when they are complete."""
GRAPHS = ("fxgraph", "aotautograd")
"""Folders of torch's own entries."""


def cache_directory() -> Path:
    """Where torch's compiler keeps what it builds: ``TORCHINDUCTOR_CACHE_DIR``, or in ``TMPDIR``.

    Raises:
        ConfigError: It cannot be written.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        directory = Path(cache_dir())
    except OSError as error:
        raise ConfigError(
            f"{no_temporary_directory('compiling', error)}, or TORCHINDUCTOR_CACHE_DIR"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"compiling needs to write {directory}, which it cannot: set TORCHINDUCTOR_CACHE_DIR "
            "to a directory that can be written"
        )
    return directory


def mend_cache() -> list[Path]:
    """Remove what a killed compiler has left unfinished; returns it.

    What another process is compiling at the moment is left alone: it holds a lock.

    Raises:
        ConfigError: As ``cache_directory``.
    """
    directory = cache_directory()
    removed = _remove(directory, lambda file: not is_complete(file))
    if removed:
        logger.warning(
            "unfinished libraries were removed from the compiler's cache",
            extra={"directory": str(directory), "files": len(removed)},
        )
    return removed


def with_cache(compile_it: Callable[[], None]) -> None:
    """Mend the cache and compile; should that fail, once more without what the cache holds.

    Raises:
        ConfigError: As ``cache_directory``.
    """
    mend_cache()
    try:
        compile_it()
    except OsaError:
        raise
    except Exception as error:  # the compiler raises exceptions of many types
        import torch

        directory = cache_directory()
        logger.warning(
            "compiling failed, and is tried again without the compiler's cache",
            extra={"directory": str(directory), "reason": str(error)[:500]},
        )
        _remove(directory, lambda file: True)
        for folder in GRAPHS:
            shutil.rmtree(directory / folder, ignore_errors=True)
        torch.compiler.reset()
        compile_it()


def _remove(directory: Path, unwanted: Callable[[Path], bool]) -> list[Path]:
    """Remove what was built and is unwanted, unless it is being built; returns it."""
    removed = []
    for pattern in BUILT:
        for file in directory.rglob(pattern):
            with contextlib.suppress(OSError):  # gone, by another process that mends as well
                if unwanted(file) and _unlocked(directory, file):
                    file.unlink()
                    removed.append(file)
    return removed


def is_complete(file: Path) -> bool:
    """Whether a file ends where its header says; linkers write the table of sections last.

    Files of other formats than ELF are complete where they are not empty.
    """
    with file.open("rb") as opened:
        head = opened.read(64)
        size = os.fstat(opened.fileno()).st_size
    if not head or not any(head):
        return False
    if head[:4] != ELF:
        return not ELF.startswith(head[:4])
    if len(head) < 64 or head[4] != 2:  # of 64 bits
        return len(head) == 64
    order = "<" if head[5] == 1 else ">"
    sections: int = struct.unpack_from(f"{order}Q", head, 40)[0]
    entry, count = struct.unpack_from(f"{order}HH", head, 58)
    return sections > 0 and size >= sections + entry * count


def _unlocked(directory: Path, file: Path) -> bool:
    """Whether no process compiles a file at the moment, by torch's own lock."""
    key = file.name.partition(".")[0]
    for folder in (directory / "locks", directory / "precompiled_headers" / "locks"):
        lock = folder / f"{key}.lock"
        if lock.is_file():
            with lock.open("rb") as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
    return True
