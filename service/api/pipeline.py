"""The way of every inference request: parse, submit, wait, render, account.

Heavy parsing and rendering run on threads, off the event loop. A route parses a body into a
``Job``, which holds what to embed and how to write the answer. ``submitted`` and ``answer`` know
no transport; ``handle``, ``arrive`` and ``work_on_text`` take HTTP requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response

from osa.service.api import headers
from osa.service.api.deadlines import deadline_of, disconnected, left_s
from osa.service.api.job import Arrival, Parse, RequestContext, Running
from osa.service.api.scoring.reduction import reduce_results
from osa.service.api.vector_encoding import Answer
from osa.service.auth.api_keys import KEY_SCOPE, ApiKey, tenant_of
from osa.service.batching.fair_pool import FairPool
from osa.service.batching.item import ItemResult
from osa.service.errors import ClientGoneError, DeadlineError, ServiceError
from osa.service.inference.request import PreparedRequest, stage_times
from osa.service.models.registry import ModelRegistry
from osa.service.observability.metrics import UNKNOWN_TOKENS
from osa.service.observability.tracing import SCOPE_KEY, Tracing

SMALL_BODY = 4096
"""Bodies of up to this many bytes are read, and answers of ``FEW`` vectors rendered, on the event
loop: handing them to a thread would cost more than the work."""
FEW = 4
Result = TypeVar("Result")


class InferencePipeline:
    """Answers inference requests, with threads to parse and one to render."""

    def __init__(
        self,
        models: ModelRegistry,
        workers: int,
        request_timeout_s: float | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Create the threads.

        Args:
            models: The served models.
            workers: Threads that parse bodies.
            request_timeout_s: Deadline of requests that set none [s].
            tracing: Records the stages of every request.
        """
        self.models, self._tracing = models, tracing
        self.request_timeout_s = request_timeout_s
        self._parsers = FairPool(workers, "osa-parse")
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="osa-render")

    def close(self) -> None:
        """End the threads."""
        self._parsers.shutdown()
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def handle(self, request: Request, parse: Parse) -> Response:
        """Answer an inference request.

        Args:
            request: The request; the gate has read its body.
            parse: From a request to a job.

        Raises:
            ServiceError: The request cannot be answered; counted under the model it chose.
        """
        async with self.submitted(await self.arrive(request), parse) as running:
            answer, stages = await self.answer(running, lambda: disconnected(request))
            measured = {**answer.headers, **running.job.count_headers()}
            measured |= headers.time_headers(stages)
            return Response(answer.content, media_type=answer.media_type, headers=measured)

    async def arrive(self, request: Request) -> Arrival:
        """An HTTP request as every transport hands it on; the gate has read its body.

        Raises:
            ValidationError: Its header of the deadline is wrong.
        """
        started, scope = time.monotonic(), request.scope
        return Arrival(
            await request.body(),
            request.headers.get("content-type"),
            started,
            deadline_of(request, started, self.request_timeout_s),
            scope.get(KEY_SCOPE),
            scope.get(SCOPE_KEY),
        )

    @contextlib.asynccontextmanager
    async def submitted(self, arrival: Arrival, parse: Parse) -> AsyncIterator[Running]:
        """Within the block every input is queued, computed or done.

        Leaving the block early cancels what is still queued.

        Args:
            arrival: The request.
            parse: From a request to a job.

        Raises:
            ServiceError: The request cannot be answered; it names the model that it chose.
        """
        with (
            self.models.lease() as find,
            RequestContext(arrival.raw, arrival.content_type, arrival.started, find) as context,
        ):
            light = len(arrival.raw) <= SMALL_BODY
            tenant = tenant_of(arrival.key)
            parsers = self._parsers.of(tenant)
            job = parse(context) if light else await self._on(parsers, lambda: parse(context))
            embedder, deadline = job.model.embedder, arrival.deadline
            job.model.metrics.count_request(len(job.prepared.ids))
            with _charged(arrival.key, job.prepared):
                submission = embedder.submit(job.prepared, deadline, arrival.trace_span, tenant)
            try:
                yield Running(job, submission, deadline, arrival.started, arrival.trace_span)
            finally:
                if not submission.pending.done.done():
                    embedder.withdraw(submission)

    async def answer(
        self, running: Running, left: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> tuple[Answer, dict[str, float]]:
        """Wait for all results, render and account.

        Args:
            running: The request.
            left: Returns once the client has gone away; None where the task is cancelled then.

        Returns:
            The answer, and the durations of its stages as of ``account``.

        Raises:
            ClientGoneError: The client went away.
            DeadlineError: The deadline passed.
            ServiceError: An input's own.
        """
        await self._arrived(running, left)
        results, job = running.submission.results(), running.job

        def finish() -> Answer:
            return job.render(job.model.embedder.finish(job.prepared, results))

        light = len(results) <= FEW and not (
            job.prepared.options.token_vectors or job.prepared.spans
        )
        answer = finish() if light else await self.render(finish)
        return answer, self.account(running, results)

    def account(self, running: Running, results: Sequence[ItemResult]) -> dict[str, float]:
        """Count an answered request, streamed or not.

        Args:
            running: The request.
            results: Of all its inputs.

        Returns:
            The durations of its stages, and ``total`` of the whole request [s].
        """
        job, total_s = running.job, time.monotonic() - running.started
        prepared, metrics = job.prepared, job.model.metrics
        stages = stage_times(prepared, results)
        metrics.count_success(
            [len(ids) for ids in prepared.ids], sum(1 for cut in prepared.truncated if cut)
        )
        if prepared.unknown:
            metrics.add(UNKNOWN_TOKENS, prepared.unknown)
        if self._tracing is not None:
            self._tracing.stages(running.trace_span, prepared.started, stages, prepared.tokens)
        stages["total"] = total_s
        metrics.observe_durations(stages)
        return stages

    async def work_on_text(
        self, request: Request, work: Callable[[RequestContext], bytes]
    ) -> Response:
        """Answer what needs the tokenizer alone, on the threads that parse.

        Args:
            request: The request; the gate has read its body.
            work: From a request to the JSON answer.

        Raises:
            ServiceError: The request cannot be answered.
        """
        raw, content_type = await request.body(), request.headers.get("content-type")
        started = time.monotonic()
        with (
            self.models.lease() as find,
            RequestContext(raw, content_type, started, find) as context,
        ):
            parsers = self._parsers.of(tenant_of(request.scope.get(KEY_SCOPE)))
            content = await self._on(parsers, lambda: work(context))
        return Response(content, media_type="application/json")

    async def render(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` on the thread that renders."""
        return await self._on(self._renderer, work)

    async def _arrived(
        self, running: Running, left: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        """Wait for all results, reduced where the job says so; see ``_wait``."""
        pending, reduce = running.submission.pending, running.job.reduce
        if reduce is None:
            await _wait(pending.done, running.deadline, left)
            return
        reduced = asyncio.ensure_future(reduce_results(pending, reduce, self.render))
        try:
            await _wait(reduced, running.deadline, left)
            reduced.result()
        finally:
            reduced.cancel()

    @staticmethod
    async def _on(pool: Executor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _wait(
    done: asyncio.Future[None],
    deadline: float,
    left: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Wait until ``done``, but no longer than the client does.

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
            timeout=left_s(deadline),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if done.done():
            return
        if gone is not None and gone.done():
            raise ClientGoneError("the client went away")
        raise DeadlineError("no answer before the deadline")
    finally:
        if gone is not None:
            gone.cancel()


@contextlib.contextmanager
def _charged(key: ApiKey | None, prepared: PreparedRequest) -> Iterator[None]:
    """Charge a request's tokens to its key; refund them where the request is refused.

    Raises:
        QuotaError: The key has not enough.
        TooManyTokensError: The key never has so much.
    """
    bucket = None if key is None else key.bucket
    if bucket is not None:
        bucket.take(prepared.tokens)
    try:
        yield
    except ServiceError:
        if bucket is not None:
            bucket.give_back(prepared.tokens)
        raise
