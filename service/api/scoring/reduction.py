"""Making the results of a request small as they come, so that large ones are not all kept."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence

from osa.service.api.job import Reduce
from osa.service.inference.inflight import PendingRequest
from osa.service.inference.request import failed

Render = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs work on the thread that renders."""


async def reduce_results(
    pending: PendingRequest, reduce: Reduce, render: Render, check: Callable[[], None]
) -> None:
    """Reduce every result as it comes; returns once all have come.

    Args:
        pending: The request.
        reduce: Of its job.
        render: Where the work is done.
        check: Raises once the results are not wanted any more.

    Raises:
        ServiceError: Of the first result that failed, of ``reduce`` or of ``check``.
    """
    left = len(pending.results)
    while left:
        places = [await pending.arrivals.get()]
        while not pending.arrivals.empty():
            places.append(pending.arrivals.get_nowait())
        left -= len(places)
        await render(functools.partial(_reduce, pending, places, reduce, check))


def _reduce(
    pending: PendingRequest, places: Sequence[int], reduce: Reduce, check: Callable[[], None]
) -> None:
    """Put in place of results what has to be kept of them; a failed one ends the request."""
    for place in sorted(places):
        check()
        result = pending.results[place]
        if result is None:
            continue
        if result.error is not None:
            raise failed(place, result.error)
        pending.results[place] = reduce(place, result)
