"""``POST /rerank``: texts by their relevance to a query.

Clients of two protocols post to this path: those of text-embeddings-inference send ``texts``, those
of Cohere's and Jina's form send ``documents``.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from osa.service.api.errors.examples import NO_RANKING, missing
from osa.service.api.job import Job, Parse, RequestContext
from osa.service.api.openapi import inference, reads
from osa.service.api.parsing import name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.scoring.ranking import Ranked, Ranking, choose_ranker, ranking_job
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.score_schemas import Rank, RerankRequest
from osa.service.api.vector_encoding import Answer
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.request import PreparedRequest


def rerank_routes(
    pipeline: InferencePipeline, parse_documents: Parse, answer: type[BaseModel]
) -> APIRouter:
    """Routes bound to a pipeline.

    Args:
        pipeline: Where they are computed.
        parse_documents: Reads a body with ``documents``.
        answer: The answer to such a body.
    """
    router = APIRouter(tags=["Scores"])

    def parse(context: RequestContext) -> Job:
        body = parse_body(context.raw, context.content_type, RerankRequest)
        texts = body.texts
        if body.documents is not None:
            if texts is not None:
                raise ValidationError("give texts or documents, not both", param="documents")
            return parse_documents(context)
        if texts is None:
            raise ValidationError("texts: Field required", param="texts")
        if not texts:
            raise EmptyInputError("texts is empty", param="texts")
        choose_ranker(context, name_of(body.model), body.method)
        asked = Ranking(
            body.query,
            texts,
            body.truncate,
            body.truncation_direction or "right",
            body.raw_scores is True,
            body.method,
            body.parse_special_tokens is True,
        )

        def render(_: PreparedRequest, ranked: list[Ranked]) -> Answer:
            return render_ranks(ranked[: body.top_n], texts if body.return_text else None)

        return ranking_job(context, asked, render)

    @router.post(
        "/rerank",
        summary="Rank texts by relevance to a query",
        response_model=list[Rank] | answer,
        responses=inference(NATIVE, 422, samples={**missing("texts"), **NO_RANKING}),
        openapi_extra=reads(RerankRequest),
    )
    async def rerank(request: Request) -> Response:
        """Scores of texts, the most relevant first."""
        return await pipeline.handle(request, parse)

    return router


def render_ranks(ranked: list[Ranked], texts: list[str] | None) -> Answer:
    """The answer of ``/rerank``; with the ``texts`` if they are given."""
    entries: list[dict[str, Any]] = [{"index": one.place, "score": one.score} for one in ranked]
    if texts is not None:
        for entry in entries:
            entry["text"] = texts[entry["index"]]
    return Answer(orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY))
