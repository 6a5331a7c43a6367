"""Threads shared by tenants: who has used little is next, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import CancelledError

import pytest

from osa.service.auth.tenants import Tenant
from osa.service.batching.fair_pool import FairPool
from tests.conftest import PATIENCE_S, wait_until

A, B = Tenant("a"), Tenant("b")


def test_work_of_one_does_not_wait_for_all_work_of_another() -> None:
    order: list[str] = []
    pool, gate = FairPool(1, "test"), threading.Event()
    first = pool.of(A).submit(gate.wait, PATIENCE_S)
    many = [pool.of(A).submit(order.append, "a") for _ in range(50)]
    one = pool.of(B).submit(order.append, "b")
    gate.set()
    assert first.result(PATIENCE_S)
    for future in (one, *many):
        future.result(PATIENCE_S)
    assert order.index("b") == 0, "the other one has used time"
    assert Counter(order) == {"a": 50, "b": 1}
    pool.shutdown()


def test_long_and_short_work_get_the_same_time() -> None:
    pool, spent, stop = FairPool(1, "test"), Counter[str](), threading.Event()

    def work(name: str, seconds: float) -> None:
        if not stop.is_set():
            time.sleep(seconds)
            spent[name] += round(seconds * 1000)
            if sum(spent.values()) > 400:
                stop.set()

    futures = [
        pool.of(tenant).submit(work, tenant.identity, seconds)
        for tenant, seconds in ((A, 0.02), (B, 0.005))
        for _ in range(100)
    ]
    for future in futures:
        future.result(PATIENCE_S)
    assert 0.5 < spent["a"] / spent["b"] < 2
    assert pool._accounts == {}
    pool.shutdown()


def test_failures_and_cancelled_work_are_their_own() -> None:
    pool, gate = FairPool(1, "test"), threading.Event()

    def fail() -> None:
        raise SystemExit(1)

    blocked = pool.of(A).submit(gate.wait, PATIENCE_S)
    failed, dropped, kept = (pool.of(A).submit(work) for work in (fail, fail, lambda: 7))
    assert dropped.cancel()
    gate.set()
    assert blocked.result(PATIENCE_S)
    with pytest.raises(SystemExit):
        failed.result(PATIENCE_S)
    assert kept.result(PATIENCE_S) == 7
    gate.clear()
    running = pool.of(A).submit(gate.wait, PATIENCE_S)
    wait_until(running.running)
    waiting = pool.of(B).submit(lambda: 8)
    pool.shutdown()
    with pytest.raises(CancelledError):
        waiting.result(PATIENCE_S)
    gate.set()
    assert running.result(PATIENCE_S)
    with pytest.raises(RuntimeError):
        pool.of(A).submit(lambda: 9)


def test_cancelled_work_keeps_nothing() -> None:
    """It holds the body of a request, whose memory is not counted any more."""

    class Body(bytearray):
        pass

    pool, gate = FairPool(1, "test"), threading.Event()
    blocked = pool.of(A).submit(gate.wait, PATIENCE_S)
    wait_until(blocked.running)
    body = Body(10)
    held = weakref.ref(body)
    kept = pool.of(A).submit(lambda: 7)
    assert pool.of(A).submit(len, body).cancel()
    del body
    assert held() is None
    gate.set()
    assert kept.result(PATIENCE_S) == 7
    pool.shutdown()


def test_its_threads_do_not_keep_the_process_alive() -> None:
    program = (
        "import time\n"
        "from osa.service.auth.tenants import EVERYBODY\n"
        "from osa.service.batching.fair_pool import FairPool\n"
        "FairPool(1, 'test').of(EVERYBODY).submit(time.sleep, 600)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
