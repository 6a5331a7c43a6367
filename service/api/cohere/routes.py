"""``POST /v1/rerank`` and ``/v2/rerank``: documents by relevance, for clients of Cohere and Jina.

What clients send and read is in docs/reranking.md.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from osa.model.text.slices import Check
from osa.service.api.cohere.errors import COHERE
from osa.service.api.cohere.schemas import DocumentsRequest, DocumentsResponse
from osa.service.api.errors.examples import NO_RANKING, UNKNOWN_AMONG_SEVERAL, missing
from osa.service.api.job import Job, Parse, RequestContext
from osa.service.api.openapi import inference, reads
from osa.service.api.parsing import json_type, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.scoring.ranking import Ranked, Ranking, choose_ranker, ranking_job
from osa.service.api.vector_encoding import Answer
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.limits import check_count
from osa.service.inference.request import PreparedRequest
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel


def cohere_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Scores"])
    failing = inference(
        COHERE,
        404,
        samples={**missing("documents"), **NO_RANKING, **UNKNOWN_AMONG_SEVERAL},
    )
    described = reads(DocumentsRequest)

    def serve(path: str, summary: str, parse: Parse) -> None:
        async def rerank(request: Request) -> Response:
            """Relevance of documents to a query, the most relevant first."""
            return await pipeline.handle(request, parse)

        router.add_api_route(
            path,
            rerank,
            methods=["POST"],
            summary=summary,
            response_model=DocumentsResponse,
            responses=failing,
            openapi_extra=described,
        )

    strict = functools.partial(parse_documents, pipeline.models, several_named=True)
    serve("/v1/rerank", "Rank documents, for clients of Cohere and Jina", strict)
    serve(
        "/v2/rerank",
        "Rank documents, for clients of Cohere",
        functools.partial(strict, returned=True),
    )
    return router


def parse_documents(
    models: ModelRegistry,
    context: RequestContext,
    several_named: bool = False,
    returned: bool = False,
) -> Job:
    """The work of a request.

    Args:
        models: What is served.
        context: The request.
        several_named: Refuse unknown names of models where several rerank.
        returned: Whether documents are returned where the request does not say.

    Raises:
        ServiceError: The request cannot be answered.
    """
    body = parse_body(context.raw, context.content_type, DocumentsRequest)
    if not body.documents:
        raise EmptyInputError("documents is empty", param="documents")
    wanted = "reranker" if body.method is None else "embedding"
    rankers = sum(
        model.about.task == wanted and model.about.feature_size is None for model in models.all()
    )
    strict = several_named and rankers > 1
    model = choose_ranker(context, body.model, body.method, strict)
    check_count(len(body.documents), model.embedder.max_inputs, "documents")
    fields = list(dict.fromkeys(body.rank_fields or ["text"]))
    texts = texts_of(body.documents, fields)
    if body.max_tokens_per_doc is not None:
        check = context.cancellation.check
        texts = cut_texts(model, texts, body.max_tokens_per_doc, check)
    wants_documents = returned if body.return_documents is None else body.return_documents
    documents = whole_documents(body.documents, texts) if wants_documents else None

    def render(prepared: PreparedRequest, ranked: list[Ranked]) -> Answer:
        return render_results(prepared, ranked[: body.top_n], documents, model.name)

    return ranking_job(context, Ranking(body.query, texts, method=body.method), render)


def texts_of(documents: Sequence[Any], fields: Sequence[str]) -> list[str]:
    """What is ranked of every document: itself, or those of an object's fields that are texts.

    Raises:
        ValidationError: Neither a text nor an object with such a field.
    """
    texts = []
    for index, document in enumerate(documents):
        if isinstance(document, str):
            texts.append(document)
            continue
        if not isinstance(document, dict):
            raise ValidationError(
                f"documents[{index}] must be a text or an object with a text, got "
                f"{json_type(document)}",
                param="documents",
            )
        found = [document[field] for field in fields if isinstance(document.get(field), str)]
        if not found:
            raise ValidationError(
                f"documents[{index}] must have a text in {' or '.join(fields)[:200]}",
                param="documents",
            )
        texts.append("\n".join(found))
    return texts


def whole_documents(documents: Sequence[Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Documents as they are returned: objects with a text."""
    return [
        {"text": document}
        if isinstance(document, str)
        else {**document, "text": own if isinstance(own := document.get("text"), str) else text}
        for document, text in zip(documents, texts, strict=True)
    ]


def cut_texts(model: ServedModel, texts: Sequence[str], limit: int, check: Check) -> list[str]:
    """Texts cut behind their first ``limit`` tokens.

    Args:
        model: Whose tokens.
        texts: The texts.
        limit: Most tokens of a text.
        check: Called between steps.

    Raises:
        ValidationError: The model has no tokenizer.
    """
    long = [place for place, text in enumerate(texts) if len(text.encode()) > limit]
    cut = list(texts)
    if not long:
        return cut
    found = model.tokenizer.ends([texts[place] for place in long], limit, check)
    for place, end in zip(long, found, strict=True):
        cut[place] = cut[place][:end]
    return cut


def render_results(
    prepared: PreparedRequest,
    ranked: Sequence[Ranked],
    documents: Sequence[dict[str, Any]] | None,
    model_name: str,
) -> Answer:
    """The answer, with what clients of either form read.

    Args:
        prepared: The request, for its number of tokens.
        ranked: Documents that are returned.
        documents: All documents; None where they are not returned.
        model_name: Of the model that ranked them.
    """
    tokens = prepared.tokens
    results: list[dict[str, Any]] = [
        {"index": one.place, "relevance_score": one.score} for one in ranked
    ]
    if documents is not None:
        for entry in results:
            entry["document"] = documents[entry["index"]]
    answer = {
        "id": uuid.uuid4().hex,
        "object": "list",
        "model": model_name,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1, "total_tokens": tokens},
            "tokens": {"input_tokens": tokens, "output_tokens": 0},
        },
    }
    return Answer(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
