"""What a server costs: CPU time and memory of its whole tree of processes."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

QUIET_SHARE, QUIET_LIMIT_S = 0.05, 120.0


class ProcessTree:
    """A process and everything it has started.

    CPU time is user and system time, of children that have ended too, as far as their parents have
    waited for them. The kernel counts it in steps of 10 ms.
    """

    def __init__(self, pid: int) -> None:
        """Watch the tree below ``pid``."""
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """The root and its living descendants."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """CPU time since the tree began [s]."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # ended since the listing; its parent counts it
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> tuple[int, int]:
        """Resident and proportional memory [bytes]: shared pages counted in each, and once."""
        resident = proportional = 0
        for process in self.processes():
            try:
                memory = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            resident += memory.rss
            proportional += memory.pss
        return resident, proportional

    def wait_until_quiet(self, idle: float = 0.0) -> float:
        """Wait until the tree does no more than when nobody asks; returns seconds waited [s].

        Args:
            idle: Share of a core that it uses even then.

        Raises:
            TimeoutError: It kept working for ``QUIET_LIMIT_S``.
        """
        return wait_until_quiet(self.cpu_s, 1.5 * idle + QUIET_SHARE, 0.5, QUIET_LIMIT_S)


def wait_until_quiet(
    cpu_s: Callable[[], float], share: float, window_s: float, limit_s: float
) -> float:
    """Wait until a CPU clock moves by less than ``share`` over ``window_s``; seconds waited.

    Raises:
        TimeoutError: It kept moving for ``limit_s``.
    """
    began = time.monotonic()
    before = cpu_s()
    while time.monotonic() - began < limit_s:
        time.sleep(window_s)
        now = cpu_s()
        if now - before < share * window_s:
            return time.monotonic() - began
        before = now
    raise TimeoutError(f"the server was still busy after {limit_s} s")
