"""Waiting for a stage of a request, but no longer than its client does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from osa.service.api.deadlines import left_s
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError
from osa.service.inference.cancellation import Cancellation

Left = Callable[[], Coroutine[Any, Any, None]]
"""Returns once the client has gone away."""


async def wait(done: asyncio.Future[Any], cancellation: Cancellation, left: Left | None) -> None:
    """Wait until ``done``; otherwise the request is cancelled, and its threads end.

    Args:
        done: Of the stage; its result or error is left to the caller.
        cancellation: Of the request.
        left: None where the task is cancelled when the client leaves.

    Raises:
        ClientGoneError: The client went away.
        DeadlineError: The deadline passed.
    """
    if done.done():
        return
    gone = None if left is None else asyncio.ensure_future(left())
    try:
        await asyncio.wait(
            (done,) if gone is None else (done, gone),
            timeout=left_s(cancellation.deadline),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if done.done():
            return
        error: ServiceError = DeadlineError("no answer before the deadline")
        if gone is not None and gone.done():
            error = ClientGoneError("the client went away")
        cancellation.cancel(error)
        raise error.again()  # what is kept holds no frames, which would hold it and the body
    except asyncio.CancelledError:  # the call was cancelled, or the drain is over
        cancellation.cancel()
        raise
    finally:
        if gone is not None:
            gone.cancel()
