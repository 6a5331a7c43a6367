"""Streamed answers, a line an input (NDJSON), each as soon as its batch is done.

One JSON object a line, in the order of completion: ``index`` and the route's own fields, or
``{"index", "error", "error_type"}`` for an input that failed; every input has exactly one such
line. While an input that is computed in chunks is in work, ``{"index", "progress"}`` says from time
to time how far it is, from 0 to 1.
Single vectors are all queued at once and computed at the server's pace. Vectors of tokens and
chunks are large: their inputs are queued in portions, the next one when most of those before are
written, and a written result is dropped. So a stream of any length has bounded memory, and a slow
reader slows its own request alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from osa.service.api.deadlines import disconnected, left_s
from osa.service.api.job import Parse, Running
from osa.service.api.pipeline import FEW, InferencePipeline
from osa.service.batching.item import ItemResult
from osa.service.errors import ClientGoneError, DeadlineError, OverloadedError, ServiceError
from osa.service.inference.request import finish

NDJSON = "application/x-ndjson"
LINES_AT_ONCE = 256
"""Most lines that are written together."""
PROGRESS_S = 1.0
"""Time between two lines of progress [s]."""
RETRY_S = 0.1
"""Pause before a portion is offered again to a queue that had no room [s]."""


def wants_lines(request: Request) -> bool:
    """Whether the client accepts NDJSON."""
    accepted = request.headers.get("accept", "")
    return any(part.partition(";")[0].strip() == NDJSON for part in accepted.split(","))


async def respond(pipeline: InferencePipeline, request: Request, parse: Parse) -> Response:
    """Answer an inference request whole, or line by line where the client accepts that.

    Args:
        pipeline: Where it is computed.
        request: The request; the gate has read its body.
        parse: From a request to a job, which has ``render_item``.

    Raises:
        ServiceError: The request cannot be answered.
    """
    if wants_lines(request):
        return await stream(pipeline, request, parse)
    return await pipeline.handle(request, parse)


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
    running = await stack.enter_async_context(
        pipeline.submitted(arrival, parse, lambda: disconnected(request), paced=True)
    )
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
        self._left = set(range(len(running.job.prepared.ids)))
        self._last_portion = len(self._left) - sum(map(len, running.later))
        self.init_headers(running.job.count_headers())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head, lines and end."""
        gone = asyncio.ensure_future(disconnected(self._request))
        step = 1 if self._running.job.large else LINES_AT_ONCE
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while self._left and not gone.done():
                await self._queue_more(gone)
                places = await self._next(gone)
                if not places and not gone.done() and (progress := self._progress()):
                    await send({"type": "http.response.body", "body": progress, "more_body": True})
                for first in range(0, len(places), step):
                    if gone.done():
                        break
                    lines = await self._lines(places[first : first + step])
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            self._account()
            if not self._left:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await self._stack.aclose()

    async def _queue_more(self, gone: asyncio.Future[None]) -> None:
        """Queue the next portion once all but the last are sent.

        A queue without room gets it later. Where the server drains, its inputs fail.
        """
        running = self._running
        while running.later and not gone.done():
            unsent = len(self._left) - sum(map(len, running.later))
            if unsent > self._last_portion:
                return
            pending, portion = running.submission.pending, running.later[0]
            places = [place for place in portion if pending.results[place] is None]
            try:
                running.job.model.embedder.submit(
                    running.job.prepared,
                    running.cancellation.deadline,
                    running.trace_span,
                    running.tenant,
                    places,
                    running.submission,
                )
            except OverloadedError:
                if unsent or left_s(running.cancellation.deadline) == 0.0:
                    return
                await asyncio.wait((gone,), timeout=RETRY_S)
                continue
            except ServiceError as error:
                for place in places:
                    pending.settle(place, ItemResult(error=error))
            running.later.popleft()
            self._last_portion = len(portion)

    async def _next(self, gone: asyncio.Future[None]) -> list[int]:
        """Inputs whose results have come, or all that are left once the deadline has passed.

        None are returned when the client has gone, or when it is time to tell of progress.
        """
        arrivals = self._running.submission.pending.arrivals
        arrival = asyncio.ensure_future(arrivals.get())
        try:
            left = left_s(self._running.cancellation.deadline)
            tells = bool(self._in_chunks()) and (left is None or left > PROGRESS_S)
            await asyncio.wait(
                (arrival, gone),
                timeout=PROGRESS_S if tells else left,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done() or (tells and not arrival.done()):
                return []
            places = [arrival.result()] if arrival.done() else sorted(self._left)
            while arrival.done() and not arrivals.empty():
                places.append(arrivals.get_nowait())
            return places
        finally:
            arrival.cancel()

    def _in_chunks(self) -> list[tuple[int, float]]:
        """Places and progress of the inputs that are computed in chunks and not done."""
        submission = self._running.submission
        return [
            (place, one.item.progress)
            for one in submission.inputs
            if one.item.progress is not None
            for pending, place in one.waiters
            if pending is submission.pending and place in self._left
        ]

    def _progress(self) -> bytes:
        """A line for each of these."""
        lines = sorted(self._in_chunks())
        return b"".join(
            _write({"index": place, "progress": round(share, 4)}) for place, share in lines
        )

    async def _lines(self, places: Sequence[int]) -> bytes:
        """Lines of these inputs; what is large is written on the thread that renders."""
        render = functools.partial(self._render, places)
        light = len(places) <= FEW and not self._running.job.large
        lines = render() if light else await self._pipeline.write_part(True, self._running, render)
        self._left.difference_update(places)
        return lines

    def _render(self, places: Sequence[int]) -> bytes:
        """Lines of these inputs; those without a result are past the deadline."""
        return b"".join(self._line(place) for place in places)

    def _line(self, index: int) -> bytes:
        """The line of an input, whose vectors are dropped."""
        job, results = self._running.job, self._running.submission.pending.results
        result = results[index] or ItemResult(error=DeadlineError("the deadline has passed"))
        error, line = result.error, b""
        if error is None:
            assert job.render_item is not None  # streams are for jobs that have it
            try:
                entry = {"index": index, **job.render_item(index, finish(job.prepared, [result]))}
                line = _write(entry)
                self._pipeline.answers.check(len(line))
            except ServiceError as failure:
                error = failure.again()  # it is kept: without the frames that hold the vectors
        if error is not None:
            line = _write({"index": index, "error": str(error), "error_type": error.error_type})
        self._sent[index] = results[index] = ItemResult(
            error=error, queued_s=result.queued_s, inference_s=result.inference_s
        )
        return line

    def _account(self) -> None:
        """Count the request as one that is not streamed: failed where one of its inputs did."""
        results = [self._sent[index] for index in sorted(self._sent)]
        gone = ClientGoneError("the client went away") if self._left else None
        error: ServiceError | None = gone
        error = error or next((one.error for one in results if one.error), None)
        if error is None:
            self._pipeline.account(self._running, results)
        else:
            self._running.job.model.metrics.count_failure(error.code)


def _write(line: Mapping[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
