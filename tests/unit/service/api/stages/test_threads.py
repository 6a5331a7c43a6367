"""Short bodies never wait for large ones, which rest between their steps."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from osa.service.api.stages.threads import LARGE_BODY, WorkThreads
from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.batching.long_work import RESTS
from osa.service.errors import DeadlineError
from osa.service.inference.cancellation import Cancellation
from tests.conftest import PATIENCE_S, wait_until


def work_for(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_short_body_is_read_while_large_ones_hold_their_threads() -> None:
    threads, gate, began = (
        WorkThreads(1, lambda tenant: False),
        threading.Event(),
        threading.Event(),
    )

    def held() -> bool:
        began.set()
        return gate.wait(PATIENCE_S)

    async def run() -> tuple[str, bool]:
        large = asyncio.ensure_future(
            threads.parse(LARGE_BODY + 1, held, EVERYBODY, Cancellation(), None)
        )
        await asyncio.to_thread(began.wait, PATIENCE_S)
        name = await threads.parse(
            LARGE_BODY, lambda: threading.current_thread().name, EVERYBODY, Cancellation(), None
        )
        gate.set()
        return name, await large

    assert asyncio.run(run()) == ("osa-parse", True)
    threads.shutdown()


@pytest.mark.parametrize("computing", [True, False])
def test_a_large_body_rests_between_its_steps_while_an_engine_computes(computing: bool) -> None:
    threads, cancellation = WorkThreads(1, lambda tenant: computing), Cancellation()
    rests: list[float] = []

    def read() -> None:
        for _ in range(3):
            work_for(0.02)
            before = time.thread_time(), time.monotonic()
            cancellation.check()
            idle = time.monotonic() - before[1] - (time.thread_time() - before[0])
            rests.append(idle)

    asyncio.run(threads.parse(LARGE_BODY + 1, read, EVERYBODY, cancellation, None))
    if computing:
        assert min(rests) >= 0.02 * RESTS * 0.9
    threads.shutdown()
    before = time.monotonic()
    cancellation.check()  # on the event loop, after the work: never rests
    assert time.monotonic() - before < 0.02 * RESTS


def test_a_large_body_that_nobody_waits_for_ends_at_its_next_step() -> None:
    threads = WorkThreads(1, lambda tenant: True)
    cancellation = Cancellation(time.monotonic() + 0.1)
    ended = threading.Event()

    def read() -> None:
        try:
            while True:
                work_for(0.01)
                cancellation.check()
        finally:
            ended.set()

    with pytest.raises(DeadlineError):
        asyncio.run(threads.parse(LARGE_BODY + 1, read, EVERYBODY, cancellation, None))
    assert ended.wait(PATIENCE_S)
    threads.shutdown()


def test_parts_of_an_answer_are_written_in_the_turn_of_their_tenant() -> None:
    threads = WorkThreads(1, lambda tenant: False)

    def accounts() -> list[str]:
        return list(threads._renderer._accounts)

    assert asyncio.run(threads.write_part(False, accounts, Tenant("team"), Cancellation())) == [
        "team"
    ]
    threads.shutdown()


@pytest.mark.parametrize("late", [True, False])
def test_a_request_that_failed_is_freed_at_once(late: bool) -> None:
    """Errors hold frames, and those the body: nothing among them may hold the error."""

    class Body(bytearray):
        pass

    threads = WorkThreads(1, lambda tenant: False)

    async def fail(body: Body) -> None:
        cancellation = Cancellation(time.monotonic() + (0.02 if late else PATIENCE_S))

        def work() -> None:
            while late:
                time.sleep(0.001)
                cancellation.check()
            raise DeadlineError(f"{len(body)} bytes")

        with pytest.raises(DeadlineError):
            await threads.parse(LARGE_BODY + 1, work, EVERYBODY, cancellation, None)

    async def run() -> None:
        body = Body(1)
        held = weakref.ref(body)
        await asyncio.create_task(fail(body))
        del body
        await asyncio.to_thread(wait_until, lambda: held() is None)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
    threads.shutdown()
