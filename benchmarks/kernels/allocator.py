"""Memory state before a timed call: warm, with freed memory kept in the process, or cold.

Before a warm call the same implementation runs twice untimed, so that allocator and caches are as
in repeated calls: twice, because aligned blocks alternate between two addresses. By default glibc
returns blocks over 32 MiB to the operating system and maps them anew each time;
``keep_freed_memory`` turns that off. Before a cold call ``malloc_trim`` returns all free memory to
the operating system, so that new buffers page-fault.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """Keep freed memory in this process from now on; no effect without glibc."""
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    set_option(M_MMAP_MAX, 0)
    set_option(M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory_trimmer() -> Callable[[], None] | None:
    """A function that returns free memory to the operating system; None without glibc."""
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None

    def release() -> None:
        trim(0)

    return release
