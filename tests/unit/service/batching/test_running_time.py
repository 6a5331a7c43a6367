"""Time that the process ran, and whether a thread worked in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from osa.service.batching import running_time
from osa.service.batching.running_time import RunningClock, Stall, ThreadWork
from tests.conftest import wait_until

PROGRAM = """
import sys, time
from osa.service.batching.running_time import RUNNING
RUNNING.start()
time.sleep(0.5)
began, counted = time.monotonic(), RUNNING.now()
print("ready", flush=True)
sys.stdin.readline()
time.sleep(0.3)
print(time.monotonic() - began, RUNNING.now() - counted)
"""


class Watched:
    """A thread that repeats a step, and what it did."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.work: ThreadWork | None = None
        self.let_go = threading.Event()
        self.step = step
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.work is not None)

    def run(self) -> None:
        self.work = ThreadWork()
        while not self.let_go.is_set():
            self.step()


def watch(step: Callable[[], object], allowed_s: float, polls: int) -> list[bool]:
    """Whether the thread counted as hung, poll by poll."""
    clock = RunningClock()
    clock.start()
    watched, stall, batch = Watched(step), Stall(clock), object()
    found = []
    for _ in range(polls):
        stall.poll(batch, watched.work)
        found.append(stall.exceeds(allowed_s))
        time.sleep(0.05)
    watched.let_go.set()
    watched.thread.join()
    return found


def test_a_stopped_process_does_not_age() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(process.pid, signal.SIGCONT)
    passed, counted = map(float, process.communicate("\n", timeout=60)[0].split())
    assert passed > 3
    assert counted < 2, "time in which no thread ran was counted"


def test_a_clock_without_ticks_stands_still() -> None:
    clock = RunningClock()
    time.sleep(3 * running_time.TICK_S)
    assert clock.now() == pytest.approx(2 * running_time.TICK_S)


def test_a_thread_that_waits_for_ever_is_hung_after_the_allowed_time() -> None:
    found = watch(lambda: time.sleep(0.2), 0.2, 12)
    assert found[-1]
    assert not any(found[: running_time.LEAST_POLLS]), "before several polls"


def test_a_thread_that_computes_has_ten_times_as_long() -> None:
    assert not any(watch(lambda: sum(range(1000)), 0.2, 12))
    assert watch(lambda: sum(range(1000)), 0.02, 12)[-1]


def test_another_batch_begins_anew() -> None:
    stall, work = Stall(), ThreadWork()
    for _ in range(10):
        stall.poll(object(), work)
        time.sleep(0.02)
    assert not stall.exceeds(0.01)


def test_a_thread_that_has_ended_did_nothing() -> None:
    watched = Watched(lambda: time.sleep(0.01))
    watched.let_go.set()
    watched.thread.join()
    assert watched.work is not None
    wait_until(lambda: watched.work is not None and watched.work.seconds() == 0.0)
