"""What the inference routes share: the way of a request, off the event loop where it is heavy."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request, Response

from osa.service.api.vector_encoding import Answer
from osa.service.auth.api_keys import ApiKey
from osa.service.errors import (
    ClientGoneError,
    DeadlineError,
    ServiceError,
    ValidationError,
)
from osa.service.inference.request import (
    Embedded,
    EmbedOptions,
    EmbedTimings,
    Inputs,
    PreparedRequest,
    Submission,
)
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.observability.tracing import SCOPE_KEY, Tracing

TIMEOUT_HEADER = "x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000
SMALL_BODY = 4096
"""Bodies up to so many bytes are read, and answers of ``FEW`` vectors printed, on the event loop:
handing them to a thread would cost more than the work."""
FEW = 4
Result = TypeVar("Result")


@dataclass
class Call:
    """A request body on its way to inputs.

    Attributes:
        raw: The body.
        content_type: Its header.
        started: When reading began (monotonic clock) [s].
        find: From a name to a model, kept open until the request is answered.
        model: The model that was chosen.
    """

    raw: bytes
    content_type: str | None
    started: float
    find: Callable[..., ServedModel]
    chosen: ServedModel | None = field(default=None)

    def choose(self, name: str | None = None, strict: bool = False) -> ServedModel:
        """Take the model of this name, or the default; see ``ModelRegistry.find``."""
        self.chosen = self.find(name, strict)
        return self.chosen

    @property
    def model(self) -> ServedModel:
        """The chosen model, by default the default."""
        return self.chosen or self.choose()

    def prepare(self, inputs: Inputs, options: EmbedOptions) -> PreparedRequest:
        """Check and tokenise inputs for the chosen model."""
        return self.model.embedder.prepare(inputs, options, self.started)


Parse = Callable[[Call], PreparedRequest]
Render = Callable[[PreparedRequest, Embedded], Answer]


class InferencePipeline:
    """Parses, embeds and renders; long parsing and rendering run on threads of their own."""

    def __init__(
        self,
        models: ModelRegistry,
        workers: int,
        request_timeout_s: float | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Create a pool of ``workers`` threads to parse, and one thread to render.

        Args:
            models: What is served.
            workers: Threads that read bodies.
            request_timeout_s: Deadline of requests that set none [s].
            tracing: Told of the stages of every request.
        """
        self.models, self._tracing = models, tracing
        self.request_timeout_s = request_timeout_s
        self._parsers = ThreadPoolExecutor(workers, thread_name_prefix="osa-parse")
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="osa-render")

    def close(self) -> None:
        """End the threads."""
        self._parsers.shutdown(wait=False, cancel_futures=True)
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def handle(self, request: Request, parse: Parse, render: Render) -> Response:
        """Answer one inference request.

        Args:
            request: The request; its body has been read by the gate.
            parse: From a call to checked, tokenised inputs.
            render: From vectors to the answer.

        Raises:
            ServiceError: Whatever the request met.
        """
        started = time.monotonic()
        async with self.submitted(request, parse, started) as (call, prepared, submission):
            results = submission.results()
            embedder = call.model.embedder

            def finish() -> tuple[Answer, EmbedTimings]:
                embedded, timings = embedder.finish(prepared, results)
                return render(prepared, embedded), timings

            if len(results) <= FEW and not prepared.options.tokens:
                answer, timings = finish()
            else:
                answer, timings = await self._on(self._renderer, finish)
            total_s = time.monotonic() - started
            metrics = call.model.metrics
            metrics.count_success(
                list(map(len, prepared.ids)), sum(1 for cut in prepared.truncated if cut)
            )
            stages = {
                "tokenization": timings.tokenization_s,
                "queue": timings.queue_s,
                "inference": timings.inference_s,
            }
            metrics.observe_durations(total=total_s, **stages)
            if self._tracing is not None:
                span = request.scope[SCOPE_KEY]
                self._tracing.stages(span, call.started, stages, prepared.tokens)
            headers = answer.headers | _headers(prepared, timings, total_s)
            return Response(answer.content, media_type=answer.media_type, headers=headers)

    @contextlib.asynccontextmanager
    async def submitted(
        self, request: Request, parse: Parse, started: float, wait: bool = True
    ) -> AsyncIterator[tuple[Call, PreparedRequest, Submission]]:
        """Within the block every input is on its way, or done where ``wait`` is set.

        Leaving the block early takes what is queued out again.

        Raises:
            ServiceError: Whatever the request met.
        """
        deadline = deadline_of(request, started, self.request_timeout_s)
        with self.models.lease() as find:
            call = Call(
                await request.body(), request.headers.get("content-type"), time.monotonic(), find
            )
            if len(call.raw) <= SMALL_BODY:
                prepared = parse(call)
            else:
                prepared = await self._on(self._parsers, lambda: parse(call))
            model = call.model
            model.metrics.count_request(len(prepared.ids))
            with _charged(request, prepared):
                submission = model.embedder.submit(prepared, deadline, request.scope.get(SCOPE_KEY))
            try:
                if wait:
                    await _arrived(request, submission, deadline)
                yield call, prepared, submission
            finally:
                if not submission.pending.done.done():
                    model.embedder.withdraw(submission)

    async def work_on_text(self, request: Request, work: Callable[[Call], bytes]) -> Response:
        """Answer what needs the tokenizer alone, on the threads that parse.

        Args:
            request: The request; its body has been read by the gate.
            work: From a call to the JSON answer.

        Raises:
            ServiceError: Whatever the request met.
        """
        body, content_type = await request.body(), request.headers.get("content-type")
        with self.models.lease() as find:
            call = Call(body, content_type, time.monotonic(), find)
            content = await self._on(self._parsers, lambda: work(call))
        return Response(content, media_type="application/json")

    @staticmethod
    async def _on(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _arrived(request: Request, submission: Submission, deadline: float) -> None:
    """Wait for all results, but no longer than the client does.

    Raises:
        ClientGoneError: The client went away.
        DeadlineError: The deadline passed.
    """
    done = submission.pending.done
    if done.done():
        return
    gone = asyncio.ensure_future(disconnected(request))
    left_s = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    try:
        await asyncio.wait((done, gone), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return
        if gone.done():
            raise ClientGoneError("the client went away")
        raise DeadlineError("no answer before the deadline")
    finally:
        gone.cancel()


async def disconnected(request: Request) -> None:
    """Return once the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.contextmanager
def _charged(request: Request, prepared: PreparedRequest) -> Iterator[None]:
    """Use the tokens of the request's key; give them back where the request is refused.

    Raises:
        QuotaError: The key has not enough.
    """
    key: ApiKey | None = request.scope.get("osa.key")
    bucket = None if key is None else key.bucket
    if bucket is not None:
        bucket.take(prepared.tokens)
    try:
        yield
    except ServiceError:
        if bucket is not None:
            bucket.give_back(prepared.tokens)
        raise


def deadline_of(request: Request, started: float, default_s: float | None) -> float:
    """When the client waits no longer (monotonic clock) [s].

    Raises:
        ValidationError: The header is no number of milliseconds within the limits.
    """
    header = request.headers.get(TIMEOUT_HEADER)
    if header is None:
        return math.inf if default_s is None else started + default_s
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds <= MAX_TIMEOUT_MS:
        raise ValidationError(
            f"{TIMEOUT_HEADER} must be above 0 and at most {MAX_TIMEOUT_MS}", param=TIMEOUT_HEADER
        )
    return started + milliseconds / 1000


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
