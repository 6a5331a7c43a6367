"""What the inference routes share: the way of a request, off the event loop where it is heavy."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response

from osa.service.batching import ItemResult
from osa.service.embedder import Embedded, Embedder, EmbedTimings, PreparedRequest
from osa.service.encoding import Answer
from osa.service.errors import ClientGoneError, DeadlineError, ValidationError
from osa.service.metrics import Metrics

TIMEOUT_HEADER = "x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000
Result = TypeVar("Result")


class InferencePipeline:
    """Parses, embeds and renders; parsing and rendering run on threads of their own."""

    def __init__(self, embedder: Embedder, metrics: Metrics, workers: int) -> None:
        """Create a pool of ``workers`` threads to parse, and one thread to render."""
        self.embedder, self._metrics = embedder, metrics
        self._parsers = ThreadPoolExecutor(workers, thread_name_prefix="osa-parse")
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="osa-render")

    def close(self) -> None:
        """End the threads."""
        self._parsers.shutdown(wait=False, cancel_futures=True)
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def handle(
        self,
        request: Request,
        parse: Callable[[bytes, str | None, float], PreparedRequest],
        render: Callable[[PreparedRequest, Embedded], Answer],
    ) -> Response:
        """Answer one inference request.

        Args:
            request: The request; its body has been read by the gate.
            parse: From body, content type and start time to checked, tokenised inputs.
            render: From vectors to the answer.

        Raises:
            ServiceError: Whatever the request met.
        """
        started = time.monotonic()
        timeout_s = _timeout(request.headers.get(TIMEOUT_HEADER))
        deadline = math.inf if timeout_s is None else started + timeout_s
        body, content_type = await request.body(), request.headers.get("content-type")
        loop = asyncio.get_running_loop()

        async def compute() -> tuple[PreparedRequest, list[ItemResult]]:
            prepared = await loop.run_in_executor(
                self._parsers, lambda: parse(body, content_type, time.monotonic())
            )
            self._metrics.count_request(len(prepared.ids))
            return prepared, await self.embedder.submit(prepared, deadline)

        try:
            async with asyncio.timeout(timeout_s):
                prepared, results = await _unless_disconnected(
                    request, asyncio.ensure_future(compute())
                )
        except TimeoutError:
            raise DeadlineError(f"no answer within {timeout_s} s") from None

        def finish() -> tuple[Answer, EmbedTimings]:
            embedded, timings = self.embedder.finish(prepared, results)
            return render(prepared, embedded), timings

        answer, timings = await loop.run_in_executor(self._renderer, finish)
        total_s = time.monotonic() - started
        self._metrics.count_success(
            list(map(len, prepared.ids)), sum(1 for cut in prepared.truncated if cut)
        )
        self._metrics.observe_durations(
            total=total_s,
            tokenization=timings.tokenization_s,
            queue=timings.queue_s,
            inference=timings.inference_s,
        )
        headers = answer.headers | _headers(prepared, timings, total_s)
        return Response(answer.content, media_type=answer.media_type, headers=headers)

    async def work_on_text(
        self, request: Request, work: Callable[[bytes, str | None], bytes]
    ) -> Response:
        """Answer what needs the tokenizer alone, on the threads that parse.

        Args:
            request: The request; its body has been read by the gate.
            work: From body and content type to the JSON answer.

        Raises:
            ServiceError: Whatever the request met.
        """
        body, content_type = await request.body(), request.headers.get("content-type")
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(self._parsers, lambda: work(body, content_type))
        return Response(content, media_type="application/json")


async def _unless_disconnected(request: Request, work: asyncio.Future[Result]) -> Result:
    """Await ``work``, but drop it as soon as the client goes away.

    Raises:
        ClientGoneError: The client went away.
    """
    gone = asyncio.ensure_future(_disconnected(request))
    tasks: list[asyncio.Future[Any]] = [work, gone]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGoneError("the client went away")
        return work.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _timeout(header: str | None) -> float | None:
    """Seconds that the client will wait, or None.

    Raises:
        ValidationError: The header is no number of milliseconds within the limits.
    """
    if header is None:
        return None
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds <= MAX_TIMEOUT_MS:
        raise ValidationError(
            f"{TIMEOUT_HEADER} must be above 0 and at most {MAX_TIMEOUT_MS}", param=TIMEOUT_HEADER
        )
    return milliseconds / 1000


def _headers(prepared: PreparedRequest, timings: EmbedTimings, total_s: float) -> dict[str, str]:
    """text-embeddings-inference's response headers [ms], and ours."""
    values = {
        "x-total-time": round(total_s * 1000),
        "x-tokenization-time": round(timings.tokenization_s * 1000),
        "x-queue-time": round(timings.queue_s * 1000),
        "x-inference-time": round(timings.inference_s * 1000),
        "x-compute-tokens": prepared.tokens,
        "x-compute-characters": prepared.characters,
        "x-truncated-tokens": sum(prepared.truncated),
    }
    return {name: str(value) for name, value in values.items()}
