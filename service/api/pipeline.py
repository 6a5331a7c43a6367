"""The way of every inference request: parse, submit, wait, render, account.

Heavy parsing and rendering run on threads, off the event loop, which meanwhile watches deadline and
client: on either it answers at once, and the thread ends at its next step. A route parses a body
into a ``Job``, which holds what to embed and how to write the answer. ``submitted`` and ``answer``
know no transport; ``handle``, ``arrive`` and ``work_on_text`` take HTTP requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from fastapi import Request, Response

from osa.service.api import headers
from osa.service.api.deadlines import deadline_of, disconnected
from osa.service.api.job import Arrival, Find, Parse, RequestContext, Running, TextAnswer
from osa.service.api.scoring.reduction import reduce_results
from osa.service.api.stages.answers import ANSWER_LIMIT, AnswerLimit
from osa.service.api.stages.threads import FEW_VECTORS, WorkThreads
from osa.service.api.stages.waiting import Left, wait
from osa.service.api.vector_encoding import JSON, Answer
from osa.service.auth.api_keys import KEY_SCOPE, charged, tenant_of
from osa.service.batching.item import ItemResult
from osa.service.errors import UnavailableError
from osa.service.inference.cancellation import Cancellation
from osa.service.inference.request import finish as finish_vectors
from osa.service.inference.request import stage_times
from osa.service.models.registry import ModelRegistry
from osa.service.observability.metrics import UNKNOWN_TOKENS
from osa.service.observability.tracing import SCOPE_KEY, Tracing

SMALL_BODY = 4096
"""Bodies of up to this many bytes are read, and answers of ``FEW`` vectors rendered, on the event
loop: handing them to a thread would cost more than the work."""
FEW = 4
Result = TypeVar("Result")


class InferencePipeline:
    """Answers inference requests, with threads that read and write what is not small."""

    def __init__(
        self,
        models: ModelRegistry,
        workers: int,
        request_timeout_s: float | None = None,
        tracing: Tracing | None = None,
        answer_limit: int = ANSWER_LIMIT,
    ) -> None:
        """Prepare the threads.

        Args:
            models: The served models.
            workers: Threads that parse bodies, and as many for large ones.
            request_timeout_s: Deadline of requests that set none [s].
            tracing: Records the stages of every request.
            answer_limit: As ``server.answer_limit`` [bytes].
        """
        self.models, self._tracing = models, tracing
        self.request_timeout_s, self.answers = request_timeout_s, AnswerLimit(answer_limit)
        self._threads = WorkThreads(workers, models.needs_processors)
        self._open: set[Cancellation] = set()

    def close(self) -> None:
        """End the work of every request that is still open, and the threads."""
        for cancellation in self._open:
            cancellation.cancel(UnavailableError("the server has stopped"))
        self._threads.shutdown()

    async def handle(self, request: Request, parse: Parse) -> Response:
        """Answer an inference request.

        Args:
            request: The request; the gate has read its body.
            parse: From a request to a job.

        Raises:
            ServiceError: The request cannot be answered; counted under the model it chose.
        """
        left = functools.partial(disconnected, request)
        async with self.submitted(await self.arrive(request), parse, left) as running:
            answer, stages = await self.answer(running, left)
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
    async def submitted(
        self, arrival: Arrival, parse: Parse, left: Left | None = None, paced: bool = False
    ) -> AsyncIterator[Running]:
        """Within the block every input is queued, computed or done.

        Leaving the block early cancels what is still queued, and what threads still do.

        Args:
            arrival: The request.
            parse: From a request to a job.
            left: Returns once the client has gone away; None where the task is cancelled then.
            paced: Queue only what ``Job.portions`` has first; the caller queues the rest.

        Raises:
            ServiceError: The request cannot be answered; it names the model that it chose.
        """
        with (
            self._cancellation(arrival) as cancellation,
            self.models.lease() as find,
            self._context(arrival, find, cancellation) as context,
        ):
            tenant = tenant_of(arrival.key)
            if len(arrival.raw) <= SMALL_BODY:
                job = parse(context)
            else:
                job = await self._threads.parse(
                    len(arrival.raw), lambda: parse(context), tenant, cancellation, left
                )
            embedder, later = job.model.embedder, deque(job.portions() if paced else ())
            job.model.metrics.count_request(len(job.prepared.ids))
            with charged(arrival.key, job.prepared.tokens):
                submission = embedder.submit(
                    job.prepared,
                    arrival.deadline,
                    arrival.trace_span,
                    tenant,
                    later.popleft() if paced else None,
                )
            span = arrival.trace_span
            try:
                yield Running(job, submission, cancellation, arrival.started, span, tenant, later)
            finally:
                if not submission.pending.done.done():
                    embedder.withdraw(submission)

    async def answer(
        self, running: Running, left: Left | None = None
    ) -> tuple[Answer, dict[str, float]]:
        """Wait for all results, render and account.

        Args:
            running: The request.
            left: Returns once the client has gone away; None where the task is cancelled then.

        Returns:
            The answer, and the durations of its stages as of ``account``.

        Raises:
            AnswerTooLargeError: It is over the limit.
            ClientGoneError: The client went away.
            DeadlineError: The deadline passed.
            ServiceError: An input's own.
        """
        await self._arrived(running, left)
        results, job = running.submission.results(), running.job

        def finish() -> Answer:
            return job.render(finish_vectors(job.prepared, results))

        if len(results) <= FEW and not job.large:
            answer = finish()
        else:
            large = job.large or len(results) > FEW_VECTORS
            answer = await self._threads.write(
                large, finish, running.tenant, running.cancellation, left
            )
        self.answers.check(len(answer.content))
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
        self, request: Request, work: Callable[[RequestContext], TextAnswer]
    ) -> Response:
        """Answer what needs the tokenizer alone, on the threads that parse; charged by its tokens.

        Args:
            request: The request; the gate has read its body.
            work: From a request to the JSON answer.

        Raises:
            ServiceError: The request cannot be answered.
        """
        arrival = await self.arrive(request)
        with (
            self._cancellation(arrival) as cancellation,
            self.models.lease() as find,
            self._context(arrival, find, cancellation) as context,
        ):
            left = functools.partial(disconnected, request)
            tenant, size = tenant_of(arrival.key), len(arrival.raw)
            answer = await self._threads.parse(
                size, lambda: work(context), tenant, cancellation, left
            )
            with charged(arrival.key, answer.tokens):
                self.answers.check(len(answer.content))
        return Response(answer.content, media_type=JSON)

    async def write_part(self, large: bool, running: Running, work: Callable[[], Result]) -> Result:
        """Write a part of an answer on a thread, with the time of large ones where it is."""
        return await self._threads.write_part(large, work, running.tenant, running.cancellation)

    async def _arrived(self, running: Running, left: Left | None) -> None:
        """Wait for all results, reduced where the job says so."""
        pending, reduce = running.submission.pending, running.job.reduce
        if reduce is None:
            await wait(pending.done, running.cancellation, left)
            return
        check = running.cancellation.check
        render = functools.partial(self.write_part, running.job.large, running)
        reduced = asyncio.ensure_future(reduce_results(pending, reduce, render, check))
        try:
            await wait(reduced, running.cancellation, left)
            reduced.result()
        finally:
            reduced.cancel()

    def _context(self, arrival: Arrival, find: Find, cancellation: Cancellation) -> RequestContext:
        return RequestContext(
            arrival.raw, arrival.content_type, arrival.started, find, cancellation, self.answers
        )

    @contextlib.contextmanager
    def _cancellation(self, arrival: Arrival) -> Iterator[Cancellation]:
        """Of a request; at the end of the block whatever still works for it ends."""
        cancellation = Cancellation(arrival.deadline)
        self._open.add(cancellation)
        try:
            yield cancellation
        finally:
            cancellation.cancel()
            self._open.discard(cancellation)
