"""A parsed inference request: what is embedded, and how its answer is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from osa.model.config import Task
from osa.service.api import headers
from osa.service.api.vector_encoding import Answer
from osa.service.auth.api_keys import ApiKey
from osa.service.batching.item import ItemResult
from osa.service.errors import ServiceError
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


class Job(NamedTuple):
    """A parsed inference request.

    Attributes:
        model: The model that computes it.
        prepared: What is embedded.
        render: From the vectors to the answer.
        render_item: From one input's vectors to its entry in a streamed answer; None where the
            answer cannot be streamed.
        reduce: Called with every result as it comes, on one thread at a time, so that large results
            need not be kept; None where they are small.
    """

    model: ServedModel
    prepared: PreparedRequest
    render: Callable[[Embedded], Answer]
    render_item: Callable[[Embedded], Any] | None = None
    reduce: Reduce | None = None

    def count_headers(self) -> dict[str, str]:
        """Headers of the answer that are known before it."""
        return headers.count_headers(self.prepared, self.model.about.device)


@dataclass
class RequestContext:
    """A request body, and the model that it chooses.

    As a context manager it gives errors that leave the block the name of that model.

    Attributes:
        raw: The body.
        content_type: Its header.
        started: When reading began (monotonic clock) [s].
        find: ``ModelRegistry.find``; the model is kept open until the request is answered.
        chosen: The model that was chosen.
    """

    raw: bytes
    content_type: str | None
    started: float
    find: Find
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
        render_item: Callable[[Embedded], Any] | None = None,
        reduce: Reduce | None = None,
    ) -> Job:
        """Check and tokenise inputs for the chosen model.

        Args:
            inputs: Texts, pairs of texts, ids or features.
            options: What was asked for.
            render: From the prepared request and its vectors to the answer.
            render_item: As ``Job.render_item``.
            reduce: As ``Job.reduce``.
        """
        model = self.chosen or self.choose()
        prepared = model.embedder.prepare(inputs, options, self.started)
        return Job(model, prepared, lambda found: render(prepared, found), render_item, reduce)


Parse = Callable[[RequestContext], Job]


class Running(NamedTuple):
    """A job whose inputs have been submitted.

    Attributes:
        job: The job.
        submission: Its inputs.
        deadline: When the client stops waiting (monotonic clock) [s].
        started: When the request came (monotonic clock) [s].
        trace_span: Of the request, if requests are traced.
    """

    job: Job
    submission: Submission
    deadline: float
    started: float
    trace_span: object
