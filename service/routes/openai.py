"""OpenAI-compatible routes: ``POST /v1/embeddings`` and ``GET /v1/models``."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.embedder import Embedded, EmbedOptions, PreparedRequest
from osa.service.encoding import Answer, convert, encode_vector
from osa.service.routes.inference import InferencePipeline
from osa.service.routes.native import request_body
from osa.service.schemas.body import parse_body, parse_inputs
from osa.service.schemas.openai import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    ErrorBody,
    ModelEntry,
    ModelList,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 413, 415, 429, 500, 503, 504)
}


def openai_routes(pipeline: InferencePipeline, model_name: str) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["OpenAI"])

    described = request_body(EmbeddingsRequest.model_json_schema())
    started_at = int(time.time())

    @router.get("/v1/models")
    async def models() -> ModelList:
        """The one model that is served."""
        entry = ModelEntry(id=model_name, object="model", created=started_at, owned_by="osa")
        return ModelList(object="list", data=[entry])

    @router.post(
        "/embeddings", response_model=EmbeddingsResponse, responses=ERRORS, openapi_extra=described
    )
    @router.post(
        "/v1/embeddings",
        response_model=EmbeddingsResponse,
        responses=ERRORS,
        openapi_extra=described,
    )
    async def embeddings(request: Request) -> Response:
        """Embed texts or token ids, as OpenAI's endpoint of this name does."""
        chosen: dict[str, str] = {}

        def parse(raw: bytes, content_type: str | None, started: float) -> PreparedRequest:
            body = parse_body(raw, content_type, EmbeddingsRequest)
            chosen["format"] = body.encoding_format or "float"
            options = EmbedOptions(dimensions=body.dimensions)
            return pipeline.embedder.prepare(parse_inputs(body.input, "input"), options, started)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            return render_embeddings(prepared, embedded.vectors, chosen["format"], model_name)

        return await pipeline.handle(request, parse, render)

    return router


def render_embeddings(
    prepared: PreparedRequest, vectors: np.ndarray, encoding: str, model_name: str
) -> Answer:
    """OpenAI's list object; ``base64`` is little-endian float32."""

    def encode(vector: np.ndarray) -> np.ndarray | str:
        if encoding == "float":
            return vector
        return encode_vector(convert(vector[None], "float32")[0])

    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": model_name,
        "usage": {"prompt_tokens": prepared.tokens, "total_tokens": prepared.tokens},
    }
    return Answer(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
