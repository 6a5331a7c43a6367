"""Threads for the long synchronous stages of requests, which never keep the process alive.

The threads of ``concurrent.futures`` are joined when the interpreter ends: a process that is told
to end would wait for the longest text that somebody has sent. Work that is waited for is joined by
the drain; the rest is of no use.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
_Task = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class WorkerThreads:
    """Daemon threads that run work in the order in which it came."""

    def __init__(self, count: int, name: str) -> None:
        """Prepare ``count`` threads of this name; the first piece of work starts them."""
        self._count, self._name = count, name
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._started = False

    def submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """The result of ``work``, for the running event loop.

        Work whose future is cancelled before its turn is left out.
        """
        if not self._started:
            self._started = True
            for _ in range(self._count):
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._tasks.put((loop, future, work))
        return future

    def close(self) -> None:
        """Let every thread end after the work that it has."""
        if self._started:
            for _ in range(self._count):
                self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            loop, future, work = task
            if not future.cancelled():
                _bring(loop, future, work)
            del task, loop, future, work  # a waiting thread keeps nothing of the last request


def _bring(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], work: Callable[[], Any]
) -> None:
    """Run ``work``, and bring its result to the event loop."""
    result: Any = None
    error: BaseException | None = None
    try:
        result = work()
    except BaseException as failure:  # the thread must outlive any work
        error = failure

    def settle() -> None:
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the event loop has ended
        loop.call_soon_threadsafe(settle)
