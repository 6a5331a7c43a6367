"""Several models on one device get equal shares of its time."""

from __future__ import annotations

import threading
import time

from osa.service.batching.fair_lock import FairLock, Flow
from tests.conftest import wait_until


def work(turns: FairLock, turn: Flow, seconds: float, stop: threading.Event) -> threading.Thread:
    """A thread that computes for ``seconds`` at a time until it is stopped."""

    def run() -> None:
        while not stop.is_set():
            ticket = turns.acquire(turn)
            time.sleep(seconds)
            turns.release(ticket)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_long_and_short_batches_get_the_same_time() -> None:
    turns, stop = FairLock(), threading.Event()
    long, short = Flow(), Flow()
    threads = [work(turns, long, 0.02, stop), work(turns, short, 0.002, stop)]
    wait_until(lambda: long.used_s + short.used_s > 0.6)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert 0.6 < long.used_s / short.used_s < 1.6


def test_coming_back_from_idleness_gives_no_credit() -> None:
    turns, busy, idle = FairLock(), Flow(used_s=100.0), Flow()
    turns.release(turns.acquire(busy))
    turns.release(turns.acquire(idle))
    assert idle.used_s >= 100.0


def test_a_ticket_that_was_taken_away_gives_nothing_back() -> None:
    turns, hung, other = FairLock(), Flow(), Flow()
    old = turns.acquire(hung)
    turns.release(old)
    new = turns.acquire(other)
    turns.release(old)
    assert turns._holder is not None
    assert turns._holder[0] == new
