"""glibc's heap: few arenas, and what is free in them goes back to the system.

glibc keeps an arena for every few threads, and in each what lies below the last block in use. Large
bodies and answers of many threads leave such holes: a server grew by a quarter in fifteen minutes,
all of it free. On systems with another C library nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable

ARENAS = 2
"""Most arenas, where ``MALLOC_ARENA_MAX`` does not say."""
M_ARENA_MAX = -8
"""Of malloc.h."""
TRIM_S = 10.0
"""Time between two trims [s]. The pages are faulted in again where they are needed again: a few
tens of milliseconds of one processor at most."""


def keep_small() -> None:
    """Limit the arenas of this process, and give back what is free from now on.

    Call it before threads are started: arenas that there are stay.
    """
    trim = trimmer()
    if trim is None:
        return
    if "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    threading.Thread(target=_trim_for_ever, args=(trim,), name="osa-heap", daemon=True).start()


def trimmer() -> Callable[[], object] | None:
    """What gives free memory back, with other threads running; None where there is no such call."""
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)


def _trim_for_ever(trim: Callable[[], object]) -> None:
    while True:
        time.sleep(TRIM_S)
        trim()
