"""``POST /embed_sparse``: weights of token ids (SPLADE), those that are not zero."""

from __future__ import annotations

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.api.errors.examples import NO_WEIGHTS, missing
from osa.service.api.job import Job, RequestContext
from osa.service.api.openapi import inference, reads
from osa.service.api.parsing import name_of, parse_body, parse_inputs
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.stages.answers import AnswerLimit, AnswerRows
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.score_schemas import EmbedSparseRequest, SparseValue
from osa.service.api.vector_encoding import Answer
from osa.service.batching.item import ItemResult
from osa.service.inference.request import EmbedOptions

NOTHING = np.empty(0, np.float32)


class SparseRows:
    """The weights of a request, as JSON as they come: whole rows have a number for every id."""

    def __init__(self, inputs: int, limit: AnswerLimit) -> None:
        """Write this many rows, in an answer of at most ``limit``."""
        self._rows = AnswerRows(inputs, limit)

    def take(self, place: int, result: ItemResult) -> ItemResult:
        """Write an input's weights, and return the result without them."""
        assert result.embedding is not None  # it has no error
        self._rows.put(place, write_weights(result.embedding))
        return result._replace(embedding=NOTHING)

    def render(self) -> Answer:
        """The answer of ``/embed_sparse``."""
        return Answer(self._rows.json())


def write_weights(weights: np.ndarray) -> bytes:
    """JSON of the weights [V] that are not zero, by ascending id."""
    places = np.flatnonzero(weights)
    entries = [
        {"index": index, "value": value}
        for index, value in zip(places.tolist(), weights[places], strict=True)
    ]
    return orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)


def sparse_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Scores"])

    def parse(context: RequestContext) -> Job:
        body = parse_body(context.raw, context.content_type, EmbedSparseRequest)
        context.choose(name_of(body.model), tasks=("sparse",))
        inputs = parse_inputs(body.inputs, "inputs")
        options = EmbedOptions(
            truncate=body.truncate,
            direction=body.truncation_direction or "right",
            prompt_name=body.prompt_name,
            parse_special=body.parse_special_tokens is True,
            tasks=("sparse",),
        )
        rows = SparseRows(len(inputs), context.answers)
        return context.job(inputs, options, lambda *_: rows.render(), reduce=rows.take)

    @router.post(
        "/embed_sparse",
        summary="Weights of token ids",
        response_model=list[list[SparseValue]],
        responses=inference(NATIVE, 422, samples={**missing("inputs"), **NO_WEIGHTS}),
        openapi_extra=reads(EmbedSparseRequest),
    )
    async def embed_sparse(request: Request) -> Response:
        """Weights of each input that are not zero, with their token ids."""
        return await pipeline.handle(request, parse)

    return router
