"""Threads of requests, and waiting for them."""

from __future__ import annotations

import asyncio
import functools
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from osa.service.api.stages.threads import WorkerThreads
from osa.service.api.stages.waiting import wait
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError
from osa.service.inference.cancellation import Cancellation


def fail() -> None:
    raise ValueError("no")


def test_results_and_errors_come_back_in_order() -> None:
    async def run() -> list[int]:
        threads = WorkerThreads(1, "test")
        found = [threads.submit(functools.partial(int, number)) for number in range(5)]
        with pytest.raises(ValueError, match="no"):
            await threads.submit(fail)
        threads.close()
        return [await one for one in found]

    assert asyncio.run(run()) == list(range(5))


def test_work_that_nobody_waits_for_is_left_out() -> None:
    done: list[int] = []

    async def run() -> None:
        threads, gate = WorkerThreads(1, "test"), threading.Event()
        first = threads.submit(gate.wait)
        second = threads.submit(lambda: done.append(2))
        second.cancel()
        gate.set()
        await first
        await threads.submit(lambda: done.append(3))

    asyncio.run(run())
    assert done == [3]


def test_threads_do_not_keep_the_process_alive() -> None:
    program = (
        "import asyncio, time\n"
        "from osa.service.api.stages.threads import WorkerThreads\n"
        "async def main():\n"
        "    WorkerThreads(1, 'test').submit(lambda: time.sleep(600))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return None


@pytest.mark.parametrize(
    ("deadline", "left", "error"),
    [(0.0, None, DeadlineError), (0.0, never, DeadlineError), (math.inf, at_once, ClientGoneError)],
)
def test_the_wait_ends_with_the_client_and_so_does_the_work(
    deadline: float, left: Callable[[], object] | None, error: type[ServiceError]
) -> None:
    cancellation, steps = Cancellation(deadline), []

    def work() -> None:
        while True:
            steps.append(1)
            time.sleep(0.001)
            if cancellation._why:
                cancellation.check()

    async def run() -> None:
        done = WorkerThreads(1, "test").submit(work)
        with pytest.raises(error):
            await wait(done, cancellation, left)  # type: ignore[arg-type]
        with pytest.raises(error):
            await done

    asyncio.run(run())


def test_a_task_that_is_cut_off_ends_its_work() -> None:
    cancellation = Cancellation()

    async def run() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(wait(done, cancellation, None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    with pytest.raises(ClientGoneError):
        cancellation.check()
