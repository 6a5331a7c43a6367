"""Streamed answers, a line a vector (NDJSON), each as soon as its batch is done.

One JSON object a line, in the order of completion: ``{"index", "embedding"}``, or ``{"index",
"error", "error_type"}`` for an input that failed; every input has exactly one line. A slow reader
holds nothing but its own request: vectors are computed at the server's pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from osa.service.api.deadlines import disconnected, left_s
from osa.service.api.job import Parse, Running
from osa.service.api.pipeline import FEW, InferencePipeline
from osa.service.batching.item import ItemResult
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError

NDJSON = "application/x-ndjson"


def wants_lines(request: Request) -> bool:
    """Whether the client accepts NDJSON."""
    accepted = request.headers.get("accept", "")
    return any(part.partition(";")[0].strip() == NDJSON for part in accepted.split(","))


async def stream(pipeline: InferencePipeline, request: Request, parse: Parse) -> Response:
    """Answer an inference request line by line.

    Args:
        pipeline: Where it is computed.
        request: The request; the gate has read its body.
        parse: From a request to a job that has ``render_item``.

    Raises:
        ServiceError: The request cannot be answered, found out before the first line.
    """
    stack = contextlib.AsyncExitStack()
    arrival = await pipeline.arrive(request)
    running = await stack.enter_async_context(pipeline.submitted(arrival, parse))
    return _Lines(pipeline, request, running, stack)


class _Lines(Response):
    """Sends a line for each result, and always closes the submission."""

    def __init__(
        self,
        pipeline: InferencePipeline,
        request: Request,
        running: Running,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.status_code, self.background = 200, None
        self.media_type = NDJSON
        self._pipeline, self._request = pipeline, request
        self._running, self._stack = running, stack
        self._sent: dict[int, ItemResult] = {}
        self.init_headers(running.job.count_headers())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head, lines and end."""
        gone = asyncio.ensure_future(disconnected(self._request))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            left = set(range(len(self._running.submission.pending.results)))
            while left and not gone.done():
                places = await self._next(left, gone)
                if places:
                    render = functools.partial(self._render, places)
                    lines = render() if len(places) <= FEW else await self._pipeline.render(render)
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            self._account(gone=bool(left))
            if not left:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await self._stack.aclose()

    async def _next(self, left: set[int], gone: asyncio.Future[None]) -> list[int]:
        """Inputs whose results have come, or all that are left once the deadline has passed.

        They are removed from ``left``; none are returned when the client has gone.
        """
        arrivals = self._running.submission.pending.arrivals
        arrival = asyncio.ensure_future(arrivals.get())
        try:
            await asyncio.wait(
                (arrival, gone),
                timeout=left_s(self._running.deadline),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done():
                return []
            places = [arrival.result()] if arrival.done() else sorted(left)
            while arrival.done() and not arrivals.empty():
                places.append(arrivals.get_nowait())
            left.difference_update(places)
            return places
        finally:
            arrival.cancel()

    def _render(self, places: list[int]) -> bytes:
        """Lines of these inputs; those without a result are past the deadline."""
        return b"".join(self._line(place) for place in places)

    def _line(self, index: int) -> bytes:
        job, found = self._running.job, self._running.submission.pending.results[index]
        result = found or ItemResult(error=DeadlineError("the deadline has passed"))
        self._sent[index] = result
        if result.error is not None:
            error = result.error
            line = {"index": index, "error": str(error), "error_type": error.error_type}
        else:
            assert job.render_item is not None  # streams are for jobs that have it
            embedded = job.model.embedder.finish(job.prepared, [result])
            line = {"index": index, "embedding": job.render_item(embedded)}
        return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def _account(self, gone: bool) -> None:
        """Count the request as one that is not streamed: failed where one of its inputs did."""
        results = [self._sent[index] for index in sorted(self._sent)]
        error: ServiceError | None = ClientGoneError("the client went away") if gone else None
        error = error or next((one.error for one in results if one.error), None)
        if error is None:
            self._pipeline.account(self._running, results)
        else:
            self._running.job.model.metrics.count_failure(error.code)
