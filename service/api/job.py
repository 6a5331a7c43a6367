"""A parsed inference request: what is embedded, and how its answer is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from osa.model.config import Task
from osa.service.api import headers
from osa.service.api.stages.answers import ANSWER_LIMIT, AnswerLimit
from osa.service.api.vector_encoding import Answer
from osa.service.auth.api_keys import ApiKey
from osa.service.auth.tenants import Tenant
from osa.service.batching.item import ItemResult
from osa.service.errors import ServiceError
from osa.service.inference.cancellation import Cancellation
from osa.service.inference.request import (
    Embedded,
    EmbedOptions,
    Inputs,
    PreparedRequest,
    Submission,
)
from osa.service.models.served_model import ServedModel

Find = Callable[..., ServedModel]
"""``ModelRegistry.find`` of a lease."""
Reduce = Callable[[int, ItemResult], ItemResult]
"""From an input's place and result to what has to be kept of the result."""
Expected = Callable[[PreparedRequest], float]
"""From a prepared request to about how many bytes its answer, or the longest of its lines, has."""
PORTION_BYTES = 16_000_000
"""Vectors of tokens or chunks in one portion of a stream, but for a longer input; two portions are
queued or unsent at most [bytes]."""


class TextAnswer(NamedTuple):
    """The answer of a route that uses the tokenizer alone.

    Attributes:
        content: Its JSON.
        tokens: What it is charged as.
    """

    content: bytes
    tokens: int


class Arrival(NamedTuple):
    """A request as it came, whatever brought it.

    Attributes:
        raw: Its body.
        content_type: What the body is said to be; None where nothing is said.
        started: When it came (monotonic clock) [s].
        deadline: When the client stops waiting (monotonic clock) [s].
        key: The API key that it sent, if keys are asked for.
        trace_span: Of the request, if requests are traced.
    """

    raw: bytes
    content_type: str | None
    started: float
    deadline: float
    key: ApiKey | None
    trace_span: object


RenderItem = Callable[[int, Embedded], Mapping[str, Any]]


class Job(NamedTuple):
    """A parsed inference request.

    Attributes:
        model: The model that computes it.
        prepared: What is embedded.
        render: From the vectors to the answer.
        render_item: From one input's place and vectors to the fields of its line in a streamed
            answer; None where the answer cannot be streamed.
        reduce: Called with every result as it comes, on one thread at a time, so that large results
            need not be kept; None where they are small.
    """

    model: ServedModel
    prepared: PreparedRequest
    render: Callable[[Embedded], Answer]
    render_item: RenderItem | None = None
    reduce: Reduce | None = None

    def count_headers(self) -> dict[str, str]:
        """Headers of the answer that are known before it."""
        return headers.count_headers(self.prepared, self.model.about.device)

    @property
    def large(self) -> bool:
        """Whether an input has vectors beside its own, of tokens or chunks."""
        return self.prepared.options.token_vectors or self.prepared.spans is not None

    def portions(self) -> list[Sequence[int]]:
        """Places of the inputs that a stream queues together; at least one portion."""
        prepared = self.prepared
        counts = [len(ids) for ids in prepared.ids] if prepared.options.token_vectors else []
        if prepared.spans is not None:
            counts = [len(spans) for spans in prepared.spans]
        if not counts:
            return [range(len(prepared.ids))]
        vector_bytes = 4 * self.model.about.dimensions[0]
        portions: list[Sequence[int]] = []
        first = size = 0
        for place, count in enumerate(counts):
            if place > first and size + count * vector_bytes > PORTION_BYTES:
                portions.append(range(first, place))
                first, size = place, 0
            size += count * vector_bytes
        return [*portions, range(first, len(counts))]


@dataclass
class RequestContext:
    """A request body, and the model that it chooses.

    As a context manager it gives errors that leave the block the name of that model.

    Attributes:
        raw: The body.
        content_type: Its header.
        started: When reading began (monotonic clock) [s].
        find: ``ModelRegistry.find``; the model is kept open until the request is answered.
        cancellation: Whether its work is still wanted.
        answers: How large its answer may be.
        chosen: The model that was chosen.
    """

    raw: bytes
    content_type: str | None
    started: float
    find: Find
    cancellation: Cancellation = field(default_factory=Cancellation)
    answers: AnswerLimit = field(default_factory=lambda: AnswerLimit(ANSWER_LIMIT))
    chosen: ServedModel | None = field(default=None)

    def __enter__(self) -> RequestContext:
        """Nothing to do."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Name the model in the error."""
        if isinstance(error, ServiceError) and self.chosen is not None:
            error.model = self.chosen.name

    def choose(
        self, name: str | None = None, strict: bool = False, tasks: tuple[Task, ...] = ()
    ) -> ServedModel:
        """Choose the model of this name, or the default; see ``ModelRegistry.find``."""
        self.chosen = self.find(name, strict, tasks)
        return self.chosen

    def job(
        self,
        inputs: Inputs,
        options: EmbedOptions,
        render: Callable[[PreparedRequest, Embedded], Answer],
        render_item: RenderItem | None = None,
        reduce: Reduce | None = None,
        expected: Expected | None = None,
    ) -> Job:
        """Check and tokenise inputs for the chosen model.

        Args:
            inputs: Texts, pairs of texts, ids or features.
            options: What was asked for.
            render: From the prepared request and its vectors to the answer.
            render_item: As ``Job.render_item``.
            reduce: As ``Job.reduce``.
            expected: Size of the answer, by which it is refused before it is computed.

        Raises:
            AnswerTooLargeError: The answer would be over the limit.
            ServiceError: The inputs or options are not valid, or nobody waits for them any more.
        """
        model = self.chosen or self.choose()
        check = self.cancellation.check
        prepared = model.embedder.prepare(inputs, options, self.started, check)
        if expected is not None:
            self.answers.check(expected(prepared))
        return Job(model, prepared, lambda found: render(prepared, found), render_item, reduce)


Parse = Callable[[RequestContext], Job]


class Running(NamedTuple):
    """A job whose inputs have been submitted.

    Attributes:
        job: The job.
        submission: Its inputs.
        cancellation: Its deadline, and whether its work is still wanted.
        started: When the request came (monotonic clock) [s].
        trace_span: Of the request, if requests are traced.
        tenant: Whose request it is.
        later: Portions of a stream that are not queued yet.
    """

    job: Job
    submission: Submission
    cancellation: Cancellation
    started: float
    trace_span: object
    tenant: Tenant
    later: deque[Sequence[int]]
