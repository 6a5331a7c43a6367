"""Long work rests while the engine computes, and costs nothing where it does not."""

from __future__ import annotations

import threading
import time

from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.batching.long_work import RESTS, STEP_S, LongWork


def work_for(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_it_takes_a_quarter_of_the_time_while_the_engine_computes() -> None:
    steps, began = LongWork(lambda tenant: True).begin(EVERYBODY), time.monotonic()
    for _ in range(5):
        work_for(0.01)
        steps()
    assert time.monotonic() - began >= 5 * 0.01 * (1 + RESTS) * 0.99


def test_it_does_not_wait_for_an_idle_engine() -> None:
    long_work, began = LongWork(lambda tenant: False), time.thread_time()
    long_work.worked(EVERYBODY, 1000.0)
    steps = long_work.begin(EVERYBODY)
    for _ in range(3):
        work_for(2 * STEP_S)
        steps()
    assert time.thread_time() - began < 1000.0


def test_what_was_done_while_the_engine_was_idle_asks_for_no_rest_later() -> None:
    computing = threading.Event()
    long_work = LongWork(lambda tenant: computing.is_set())
    long_work.worked(EVERYBODY, 1000.0)
    computing.set()
    began = threading.Thread(target=long_work.begin, args=(EVERYBODY,), daemon=True)
    began.start()
    began.join(60)
    assert not began.is_alive()


def test_a_rest_ends_with_the_batch() -> None:
    computing = threading.Event()
    computing.set()
    long_work = LongWork(lambda tenant: computing.is_set())
    long_work.worked(EVERYBODY, 1000.0)
    rested = threading.Thread(target=long_work.begin, args=(EVERYBODY,), daemon=True)
    rested.start()
    rested.join(0.1)
    assert rested.is_alive()
    computing.clear()
    rested.join(60)
    assert not rested.is_alive()


def test_short_steps_add_up_before_they_are_worth_a_rest() -> None:
    long_work = LongWork(lambda tenant: True)
    steps, began = long_work.begin(EVERYBODY), time.monotonic()
    rests = 0
    while rests < 3:
        work_for(STEP_S / 10)
        before = time.monotonic()
        steps()
        rests += time.monotonic() - before >= RESTS * STEP_S * 0.9
    assert time.monotonic() - began >= 3 * (1 + RESTS) * STEP_S * 0.9


def test_one_piece_leaves_its_rest_to_the_next() -> None:
    """Two threads that take turns do not take twice the share."""
    long_work = LongWork(lambda tenant: True)
    first = long_work.begin(EVERYBODY)
    work_for(0.02)
    began = time.monotonic()
    assert first.end()
    second = long_work.begin(EVERYBODY)
    assert time.monotonic() - began >= 0.02 * RESTS * 0.99
    assert not second.end(), "nothing was done"


def test_whose_work_it_is_decides_whether_others_need_the_processors() -> None:
    long_work = LongWork(lambda tenant: tenant == Tenant("heavy"))
    long_work.worked(Tenant("heavy"), 1000.0)
    began = threading.Thread(target=long_work.begin, args=(Tenant("light"),), daemon=True)
    began.start()
    began.join(60)
    assert not began.is_alive()
