"""OpenAI-compatible routes: ``POST /v1/embeddings`` and ``GET /v1/models``."""

from __future__ import annotations

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.api.failure_examples import DIMENSIONS, READING, UNKNOWN_AMONG_SEVERAL, missing
from osa.service.api.openai.schemas import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    ModelEntry,
    ModelList,
    OpenAIErrorBody,
)
from osa.service.api.openapi import failures, inference, reads
from osa.service.api.parsing import parse_body, parse_inputs
from osa.service.api.pipeline import Call, InferencePipeline
from osa.service.api.vector_encoding import Answer, convert, encode_vector
from osa.service.inference.request import Embedded, EmbedOptions, PreparedRequest

INFERENCE = inference(
    OpenAIErrorBody, 404, samples={**missing("input"), **DIMENSIONS, **UNKNOWN_AMONG_SEVERAL}
)


def openai_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["OpenAI"])

    described = reads(EmbeddingsRequest)

    async def embeddings(request: Request) -> Response:
        """Embed texts or token ids, as OpenAI's endpoint of this name does."""
        chosen: dict[str, str] = {}

        def parse(call: Call) -> PreparedRequest:
            body = parse_body(call.raw, call.content_type, EmbeddingsRequest)
            several = len(pipeline.models.names()) > 1
            chosen["name"] = call.choose(body.model, strict=several).name
            chosen["format"] = body.encoding_format or "float"
            options = EmbedOptions(dimensions=body.dimensions)
            return call.prepare(parse_inputs(body.input, "input"), options)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            return render_embeddings(prepared, embedded.vectors, chosen["format"], chosen["name"])

        return await pipeline.handle(request, parse, render)

    for path, summary in (
        ("/v1/embeddings", "Embed texts, as OpenAI's route of this name"),
        ("/embeddings", "The same without /v1"),
    ):
        router.add_api_route(
            path,
            embeddings,
            methods=["POST"],
            summary=summary,
            response_model=EmbeddingsResponse,
            responses=INFERENCE,
            openapi_extra=described,
        )

    @router.get(
        "/v1/models",
        summary="List the served models",
        responses=failures(OpenAIErrorBody, 401, samples=READING),
    )
    async def models() -> ModelList:
        """What is served, the default first."""
        entries = [
            ModelEntry(id=model.name, object="model", created=int(model.loaded_at), owned_by="osa")
            for model in pipeline.models.all()
        ]
        return ModelList(object="list", data=entries)

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
