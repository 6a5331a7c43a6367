"""Native routes: ``POST /embed`` and ``GET /info``."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.embedder import EmbedOptions, PreparedRequest
from osa.service.routes.inference import InferencePipeline
from osa.service.schemas.body import parse_body, parse_inputs
from osa.service.schemas.native import EmbedRequest, ErrorBody, Info

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "Nothing to embed, or a body that is not JSON"},
    413: {"model": ErrorBody, "description": "Body over the limit"},
    415: {"model": ErrorBody, "description": "Content type is not JSON"},
    422: {"model": ErrorBody, "description": "A field that cannot be"},
    429: {"model": ErrorBody, "description": "No room; come back after Retry-After seconds"},
    500: {"model": ErrorBody, "description": "The engine failed on this input"},
    503: {"model": ErrorBody, "description": "Draining or not ready"},
    504: {"model": ErrorBody, "description": "The request's deadline passed"},
}


def request_body(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a JSON body that the route reads itself."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def native_routes(pipeline: InferencePipeline, info: Info) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter()

    def parse(raw: bytes, content_type: str | None, started: float) -> PreparedRequest:
        body = parse_body(raw, content_type, EmbedRequest)
        options = EmbedOptions(
            normalize=body.normalize is not False,
            truncate=body.truncate,
            direction=body.truncation_direction or "right",
            dimensions=body.dimensions,
        )
        inputs = parse_inputs(body.inputs, "inputs")
        return pipeline.embedder.prepare(inputs, options, started)

    def render(prepared: PreparedRequest, vectors: np.ndarray) -> bytes:
        return orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY)

    @router.post(
        "/embed",
        response_model=list[list[float]],
        responses=ERRORS,
        openapi_extra=request_body(EmbedRequest.model_json_schema()),
    )
    async def embed(request: Request) -> Response:
        """Embed texts or token ids; always a list of vectors."""
        return await pipeline.handle(request, parse, render)

    @router.get("/info")
    async def describe() -> Info:
        """What is served, and its limits."""
        return info

    return router
