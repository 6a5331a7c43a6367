"""The threads that read bodies and write answers, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from osa.service.api.stages.waiting import Left, wait
from osa.service.auth.tenants import Tenant
from osa.service.batching.fair_pool import FairPool
from osa.service.batching.long_work import LongWork
from osa.service.inference.cancellation import Cancellation

LARGE_BODY = 16_384
"""Bodies beyond this many bytes have threads of their own, which leave the engine its time: a short
one never waits for a long one."""
FEW_VECTORS = 64
"""Answers of more vectors are large in the same way."""
Result = TypeVar("Result")


class WorkThreads:
    """Threads that read and threads that write, for what is short and for what is large."""

    def __init__(self, workers: int, busy: Callable[[Tenant], bool]) -> None:
        """Prepare the threads; the first piece of work of a kind starts them.

        Args:
            workers: Threads that read short bodies, and as many for large ones; one each writes.
            busy: Whether engines need the processors beside what this tenant has; called on any
                thread.
        """
        self._long_work = LongWork(busy)
        self._short = FairPool(workers, "osa-parse")
        self._large = FairPool(workers, "osa-parse-large")
        self._renderer = FairPool(1, "osa-render")
        self._large_renderer = FairPool(1, "osa-render-large")

    def shutdown(self) -> None:
        """Begin no more work."""
        for pool in (self._short, self._large, self._renderer, self._large_renderer):
            pool.shutdown()

    async def parse(
        self,
        size: int,
        work: Callable[[], Result],
        tenant: Tenant,
        cancellation: Cancellation,
        left: Left | None,
    ) -> Result:
        """Read a body of ``size`` bytes while the request is wanted; see ``waiting.wait``.

        Args:
            size: Of the body [bytes].
            work: Reads it; calls the cancellation's ``check`` between its steps.
            tenant: Whose it is.
            cancellation: Of the request.
            left: Returns once the client has gone away.
        """
        if size <= LARGE_BODY:
            return await _on(self._short.of(tenant), work, cancellation, left)
        in_steps = self._in_steps(work, tenant, cancellation)
        return await _on(self._large.of(tenant), in_steps, cancellation, left)

    async def write(
        self,
        large: bool,
        work: Callable[[], Result],
        tenant: Tenant,
        cancellation: Cancellation,
        left: Left | None,
    ) -> Result:
        """Write an answer while the request is wanted.

        Args:
            large: Whether it has more than ``FEW_VECTORS``.
            work: Writes it; calls the cancellation's ``check`` between its steps.
            tenant: Whose it is.
            cancellation: Of the request.
            left: Returns once the client has gone away.
        """
        if not large:
            return await _on(self._renderer.of(tenant), work, cancellation, left)
        in_steps = self._in_steps(work, tenant, cancellation)
        return await _on(self._large_renderer.of(tenant), in_steps, cancellation, left)

    async def write_part(
        self, large: bool, work: Callable[[], Result], tenant: Tenant, cancellation: Cancellation
    ) -> Result:
        """Write a part of an answer, or make results small, whoever waits.

        Args:
            large: Whether it has the threads and the time of large answers.
            work: As for ``write``.
            tenant: Whose it is.
            cancellation: Of the request.
        """
        if not large:
            return await asyncio.wrap_future(self._renderer.of(tenant).submit(work))
        in_steps = self._in_steps(work, tenant, cancellation)
        return await asyncio.wrap_future(self._large_renderer.of(tenant).submit(in_steps))

    def _in_steps(
        self, work: Callable[[], Result], tenant: Tenant, cancellation: Cancellation
    ) -> Callable[[], Result]:
        """``work`` with rests between its steps."""

        def run() -> Result:
            steps = self._long_work.begin(tenant)
            try:
                with cancellation.stepping(steps):
                    return work()
            finally:
                steps.end()

        return run


async def _on(
    threads: Executor,
    work: Callable[[], Result],
    cancellation: Cancellation,
    left: Left | None,
) -> Result:
    def wanted() -> Result:
        cancellation.check()  # it may have waited for its turn
        return work()

    done = asyncio.wrap_future(threads.submit(wanted))
    try:
        await wait(done, cancellation, left)
        return done.result()
    finally:
        done.cancel()
        del done  # an error of it holds this frame
