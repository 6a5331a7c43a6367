"""Waiting for a stage ends with the client, and so does the work of the stage."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import pytest

from osa.service.api.stages.waiting import wait
from osa.service.auth.tenants import EVERYBODY
from osa.service.batching.fair_pool import FairPool
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError
from osa.service.inference.cancellation import Cancellation


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
        done = asyncio.wrap_future(FairPool(1, "test").of(EVERYBODY).submit(work))
        with pytest.raises(error):
            await wait(done, cancellation, left)  # type: ignore[arg-type]
        with pytest.raises(error):
            await done

    asyncio.run(run())
    assert cancellation._why is not None
    assert cancellation._why.__traceback__ is None, "its frames hold the request"


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
