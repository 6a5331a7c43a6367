"""Ranking texts by their relevance to a query: the work behind every route that reranks.

A reranker reads the query and a text as one pair. An embedding model ranks by late interaction
(``maxsim``) where that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from osa.model.config import Task
from osa.model.tokenization import Direction
from osa.service.api.job import Job, RequestContext
from osa.service.api.scoring.scores import descending, sigmoid
from osa.service.api.vector_encoding import Answer
from osa.service.errors import EmptyInputError, ModelKindError
from osa.service.inference.late_interaction import MaxSim
from osa.service.inference.request import Embedded, EmbedOptions, PreparedRequest
from osa.service.inference.tasks import KINDS, NO_RERANKER, other_kind
from osa.service.models.served_model import ServedModel

Method = Literal["maxsim"]


class Ranking(NamedTuple):
    """What is ranked.

    Attributes:
        query: The query.
        texts: What is ranked by relevance to it.
        truncate: Cut what is too long, the longer text of a pair first; None for the default.
        direction: Which side is cut.
        raw_scores: A reranker's logits in place of their sigmoid.
        method: None for a reranker.
        parse_special: As ``EmbedOptions.parse_special``.
    """

    query: str
    texts: Sequence[str]
    truncate: bool | None = None
    direction: Direction = "right"
    raw_scores: bool = False
    method: Method | None = None
    parse_special: bool = False


class Ranked(NamedTuple):
    """A text's place in the request, and its score."""

    place: int
    score: np.float32


Render = Callable[[PreparedRequest, list[Ranked]], Answer]
"""From the prepared request and its texts, the most relevant first, to the answer."""


def choose_ranker(
    context: RequestContext, name: str | None, method: Method | None, strict: bool = False
) -> ServedModel:
    """The model of this name, or the first that can rank by the method.

    Args:
        context: The request.
        name: As ``ModelRegistry.find``.
        method: As ``Ranking.method``.
        strict: As ``ModelRegistry.find``.

    Raises:
        ModelKindError: It does something else.
        UnknownModelError: There is none of this name.
    """
    wanted: Task = "reranker" if method is None else "embedding"
    model = context.choose(name, strict, (wanted,))
    task = model.about.task
    if task == wanted:
        return model
    if method is not None:
        message = f"method {method} is for embedding models, this model is {KINDS[task]}"
        raise ModelKindError(message, param="method")
    raise ModelKindError(NO_RERANKER if task == "embedding" else other_kind(task), param="model")


def ranking_job(context: RequestContext, asked: Ranking, render: Render) -> Job:
    """The work of a request whose model was chosen by ``choose_ranker``.

    Args:
        context: The request.
        asked: What is ranked.
        render: Writes the answer.

    Raises:
        EmptyInputError: No query.
        ValidationError: Too many texts, or one that is too long.
    """
    if not asked.query:
        raise EmptyInputError("query is empty", param="query")
    options = EmbedOptions(
        truncate=asked.truncate,
        direction=asked.direction,
        parse_special=asked.parse_special,
        prompted=False,
    )
    if asked.method == "maxsim":
        scoring = MaxSim(len(asked.texts))
        return context.job(
            [asked.query, *asked.texts],
            options._replace(token_vectors=True, queries=1),
            lambda prepared, _: render(prepared, rank(scoring.scores, True)),
            reduce=scoring.take,
        )

    def render_logits(prepared: PreparedRequest, found: Embedded) -> Answer:
        return render(prepared, rank(found.vectors[:, 0], asked.raw_scores))

    pairs = [(asked.query, text) for text in asked.texts]
    return context.job(pairs, options._replace(tasks=("reranker",)), render_logits)


def rank(scores: np.ndarray, raw: bool) -> list[Ranked]:
    """Texts by their scores [n], the largest first; of logits the sigmoid unless ``raw``."""
    return [
        Ranked(index, scores[index] if raw else np.float32(sigmoid(float(scores[index]))))
        for index in descending(scores)
    ]
