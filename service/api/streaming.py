"""Answers line by line (NDJSON): each vector as soon as its batch is done.

One JSON object a line, in the order of completion: ``{"index", "embedding"}``, or ``{"index",
"error", "error_type"}`` for an input that failed; every input has exactly one line. A reader that
is slow holds nothing but its own request: vectors are computed at the server's pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from osa.service.api.pipeline import InferencePipeline, Parse, deadline_of, disconnected
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError
from osa.service.inference.request import Embedded, PreparedRequest, Submission

NDJSON = "application/x-ndjson"
RenderLine = Callable[[Embedded], Any]


def wants_lines(request: Request) -> bool:
    """Whether the client asks for NDJSON."""
    accepted = request.headers.get("accept", "")
    return any(part.partition(";")[0].strip() == NDJSON for part in accepted.split(","))


async def stream(
    pipeline: InferencePipeline, request: Request, parse: Parse, render: RenderLine
) -> Response:
    """Answer an inference request line by line.

    Args:
        pipeline: Where.
        request: The request; its body has been read by the gate.
        parse: From a call to checked, tokenised inputs.
        render: From one input's vector [1, E] to what stands in its line.

    Raises:
        ServiceError: What the request met before the first line.
    """
    started = time.monotonic()
    deadline = deadline_of(request, started, pipeline.request_timeout_s)
    stack = contextlib.AsyncExitStack()
    call, prepared, submission = await stack.enter_async_context(
        pipeline.submitted(request, parse, started, wait=False)
    )
    embedder = call.model.embedder

    def line(index: int) -> bytes:
        result = submission.pending.results[index]
        assert result is not None  # it has arrived
        if result.error is not None:
            return _failure(index, result.error)
        embedded, _ = embedder.finish(prepared, [result])
        return _line({"index": index, "embedding": render(embedded)})

    def done(gone: bool) -> None:
        """Count the request as one that is not streamed: a success where every input is one."""
        metrics = call.model.metrics
        errors = [ClientGoneError.code] if gone else _failures(submission)
        if errors:
            metrics.count_failure(errors[0])
            return
        lengths = [len(ids) for ids in prepared.ids]
        metrics.count_success(lengths, sum(1 for cut in prepared.truncated if cut))
        metrics.observe_durations(total=time.monotonic() - started)

    return _Lines(request, prepared, submission, stack, deadline, line, done)


class _Lines(Response):
    """Sends a line an arrival, and always leaves the submission behind in order."""

    def __init__(
        self,
        request: Request,
        prepared: PreparedRequest,
        submission: Submission,
        stack: contextlib.AsyncExitStack,
        deadline: float,
        line: Callable[[int], bytes],
        done: Callable[[bool], None],
    ) -> None:
        self.status_code, self.background = 200, None
        self.media_type = NDJSON
        self._request, self._submission, self._stack = request, submission, stack
        self._deadline, self._line, self._done = deadline, line, done
        self.init_headers(
            {
                "x-compute-tokens": str(prepared.tokens),
                "x-compute-characters": str(prepared.characters),
                "x-truncated-tokens": str(sum(prepared.truncated)),
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head, lines and end."""
        gone = asyncio.ensure_future(disconnected(self._request))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            left = set(range(len(self._submission.pending.results)))
            while left and not gone.done():
                lines = await self._next(left, gone)
                if lines:
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            self._done(bool(left))
            if not left:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await self._stack.aclose()

    async def _next(self, left: set[int], gone: asyncio.Future[None]) -> bytes:
        """Lines of what has arrived, or of everything left once the time is up."""
        arrivals = self._submission.pending.arrivals
        arrival = asyncio.ensure_future(arrivals.get())
        wait_s = None if self._deadline == math.inf else self._deadline - time.monotonic()
        try:
            await asyncio.wait(
                (arrival, gone),
                timeout=None if wait_s is None else max(0.0, wait_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done():
                return b""
            if not arrival.done():
                late = sorted(left)
                left.clear()
                error = DeadlineError("the deadline has passed")
                return b"".join(_failure(index, error) for index in late)
            places = [arrival.result()]
            while not arrivals.empty():
                places.append(arrivals.get_nowait())
            left.difference_update(places)
            return b"".join(map(self._line, places))
        finally:
            arrival.cancel()


def _failures(submission: Submission) -> list[str]:
    """Codes of the lines that hold an error; what has no result was too late."""
    found = [result.error if result else DeadlineError("") for result in submission.pending.results]
    return [error.code for error in found if error is not None]


def _failure(index: int, error: ServiceError) -> bytes:
    return _line({"index": index, "error": str(error), "error_type": error.error_type})


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
