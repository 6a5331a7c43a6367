"""CPU time and memory of a server: of its process and all descendants."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

IDLE_SHARE, IDLE_LIMIT_S = 0.05, 120.0


class ProcessTree:
    """A process and all its descendants.

    CPU time is user and system time, including that of ended children for which their parents have
    waited. The kernel counts it in steps of 10 ms.
    """

    def __init__(self, pid: int) -> None:
        """Observe process ``pid`` and its descendants."""
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """The root and its living descendants."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """CPU time of the tree since its start [s]."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # ended since it was listed; its parent counts it
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> tuple[int, int]:
        """Memory [bytes]: resident (shared pages count in each process) and proportional (once)."""
        resident = proportional = 0
        for process in self.processes():
            try:
                memory = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            resident += memory.rss
            proportional += memory.pss
        return resident, proportional

    def wait_until_idle(self, idle: float = 0.0) -> float:
        """Wait until the tree is idle; returns the time waited [s].

        Args:
            idle: Share of a core that the idle tree uses.

        Raises:
            TimeoutError: It was busy for ``IDLE_LIMIT_S``.
        """
        return wait_until_idle(self.cpu_s, 1.5 * idle + IDLE_SHARE, 0.5, IDLE_LIMIT_S)


def wait_until_idle(
    cpu_s: Callable[[], float], share: float, window_s: float, limit_s: float
) -> float:
    """Wait until CPU usage is below a limit; returns the time waited [s].

    Args:
        cpu_s: Reads the CPU time [s].
        share: Usage that counts as idle, as a share of one core.
        window_s: Interval between two readings [s].
        limit_s: Longest time to wait [s].

    Raises:
        TimeoutError: Usage was not below ``share`` within ``limit_s``.
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
