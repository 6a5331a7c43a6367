"""Hung, or only stopped: time that this process ran, and the work that a thread did in it.

A process that is stopped (SIGSTOP, a paused container, a debugger), starved, or whose interpreter
one long call holds, makes no progress and is not hung. Its own threads cannot tell the two apart by
a wall clock. ``RunningClock`` counts what a thread that only sleeps was able to see; ``Stall``
counts, of that, the time in which the engine thread did not work.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

TICK_S = 0.25
BUSY_SHARE = 0.02
"""A thread that is on a processor, or waits for one, for less than this share of a poll is idle: a
thread that waits for an event with a timeout of 10 ms takes 0.5 %."""
LEAST_POLLS = 3
"""Polls of a thread that was idle before it can count as hung."""
SPINNING = 10.0
"""A thread that works without an end is hung after this multiple of what an idle one has."""


class RunningClock:
    """Time that the process ran [s]; any thread may read it.

    Between two ticks it advances by twice ``TICK_S`` at most, however late the second one comes.
    """

    def __init__(self) -> None:
        """Start at 0; without ``start`` it stays within two ticks of it."""
        self._state = (0.0, time.monotonic())
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Tick from now on; further calls do nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="osa-clock", daemon=True)
                self._thread.start()

    def now(self) -> float:
        """The time that the process ran since this clock was made [s]."""
        counted, last = self._state  # one read: both belong together
        return counted + min(time.monotonic() - last, 2 * TICK_S)

    def _run(self) -> None:
        while True:
            time.sleep(TICK_S)
            self._state = (self.now(), time.monotonic())


RUNNING = RunningClock()
"""The clock of this process."""


class ThreadWork:
    """What a thread did: made by the thread itself, read by any other, also after its end."""

    def __init__(self) -> None:
        """Of the calling thread."""
        clock = getattr(time, "pthread_getcpuclockid", None)  # not on macOS: never busy there
        self._clock = None if clock is None else clock(threading.get_ident())
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

    def seconds(self) -> float:
        """Time on a processor, and where Linux tells it in a run queue [s]; 0 after its end."""
        done = 0.0
        with contextlib.suppress(OSError):  # the thread has ended
            done = 0.0 if self._clock is None else time.clock_gettime(self._clock)
        with contextlib.suppress(OSError, ValueError, IndexError):
            done += int(self._schedule.read_bytes().split()[1]) * 1e-9
        return done


class Stall:
    """How long a thread has been at one piece of work, and how long of that it did nothing."""

    def __init__(self, clock: RunningClock = RUNNING) -> None:
        """No work has been seen."""
        self._clock = clock
        self._of: object = None
        self._polls = 0
        self._last = (0.0, 0.0)
        self.idle_s = self.total_s = 0.0

    def poll(self, of: object, work: ThreadWork | None) -> None:
        """Look at the thread.

        Args:
            of: Its piece of work; another one begins at 0, None is no work.
            work: What the thread did so far; None counts as nothing.
        """
        now, done = self._clock.now(), 0.0 if work is None else work.seconds()
        if of is not self._of:
            self._of, self._polls, self.idle_s, self.total_s = of, 0, 0.0, 0.0
        elif of is not None:
            passed, worked = now - self._last[0], done - self._last[1]
            self.total_s += passed
            if worked < BUSY_SHARE * passed:
                self.idle_s += passed
                self._polls += 1
        self._last = (now, done)

    def exceeds(self, allowed_s: float) -> bool:
        """Whether it was idle for longer than ``allowed_s``, or worked ``SPINNING`` times it."""
        idle = self._polls >= LEAST_POLLS and self.idle_s > allowed_s
        return idle or self.total_s > SPINNING * allowed_s
