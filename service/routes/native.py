"""Native routes: ``POST /embed`` under every name that clients know, ``/similarity``, ``/info``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.embedder import Embedded, EmbedOptions, Inputs, PreparedRequest
from osa.service.encoding import BYTES, Answer, render_vectors
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.routes.inference import InferencePipeline
from osa.service.schemas.body import check_texts, parse_body, parse_inputs
from osa.service.schemas.native import (
    EmbedRequest,
    ErrorBody,
    Info,
    SimilarityParameters,
    SimilarityRequest,
    VertexRequest,
    VertexResponse,
)

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
    content = {"application/json": {"schema": _inline(schema, schema.get("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(part: Any, definitions: dict[str, Any]) -> Any:
    """A schema that stands alone: in OpenAPI its references would be looked up in the document."""
    if isinstance(part, list):
        return [_inline(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inline(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(value, definitions) for name, value in part.items() if name != "$defs"}


EMBED_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Vectors: a list each, or base64 strings, or bytes with shape and type in "
        "headers",
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "array", "items": {"type": "number"}},
                            {"type": "string", "format": "byte"},
                        ]
                    },
                }
            },
            BYTES: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **ERRORS,
}


def native_routes(pipeline: InferencePipeline, info: Info) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Embeddings"])
    described = request_body(EmbedRequest.model_json_schema())

    @router.post("/embed", responses=EMBED_ANSWER, openapi_extra=described)
    @router.post("/invocations", responses=EMBED_ANSWER, openapi_extra=described)
    @router.post("/", responses=EMBED_ANSWER, openapi_extra=described)
    async def embed(request: Request) -> Response:
        """Embed texts or token ids; always a list of vectors."""
        chosen: dict[str, EmbedRequest] = {}

        def parse(raw: bytes, content_type: str | None, started: float) -> PreparedRequest:
            body = chosen["body"] = parse_body(raw, content_type, EmbedRequest)
            inputs = parse_inputs(body.inputs, "inputs")
            return pipeline.embedder.prepare(inputs, options_of(body), started)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            body = chosen["body"]
            kind, encoding = body.embedding_type or "float32", body.encoding_format or "float"
            return render_vectors(embedded.vectors, kind, encoding)

        return await pipeline.handle(request, parse, render)

    @router.post(
        "/vertex",
        response_model=VertexResponse,
        responses=ERRORS,
        openapi_extra=request_body(VertexRequest.model_json_schema()),
    )
    async def vertex(request: Request) -> Response:
        """Embed requests in the envelope of Vertex AI."""
        counts: list[int] = []

        def parse(raw: bytes, content_type: str | None, started: float) -> PreparedRequest:
            instances = parse_body(raw, content_type, VertexRequest).instances
            if not instances:
                raise EmptyInputError("instances is empty", param="instances")
            inputs, options = join_instances(instances, counts)
            return pipeline.embedder.prepare(inputs, options, started)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            parts = np.split(embedded.vectors, np.cumsum(counts)[:-1])
            body = {"predictions": parts}
            return Answer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

        return await pipeline.handle(request, parse, render)

    @router.post(
        "/similarity",
        response_model=list[float],
        responses=ERRORS,
        openapi_extra=request_body(SimilarityRequest.model_json_schema()),
    )
    async def similarity(request: Request) -> Response:
        """Cosine of a sentence with each of others."""

        def parse(raw: bytes, content_type: str | None, started: float) -> PreparedRequest:
            body = parse_body(raw, content_type, SimilarityRequest)
            parameters = body.parameters or SimilarityParameters()
            options = EmbedOptions(
                truncate=parameters.truncate,
                direction=parameters.truncation_direction or "right",
            )
            check_texts([body.inputs.source_sentence], "source_sentence")
            check_texts(body.inputs.sentences, "sentences")
            texts = [body.inputs.source_sentence, *body.inputs.sentences]
            return pipeline.embedder.prepare(texts, options, started)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            vectors = embedded.vectors
            cosines = (vectors[1:] * vectors[0]).sum(axis=1)
            return Answer(orjson.dumps(cosines, option=orjson.OPT_SERIALIZE_NUMPY))

        return await pipeline.handle(request, parse, render)

    @router.get("/info")
    async def describe() -> Info:
        """What is served, and its limits."""
        return info

    return router


def options_of(body: EmbedRequest) -> EmbedOptions:
    """The use case's options of a request."""
    return EmbedOptions(
        normalize=body.normalize is not False,
        truncate=body.truncate,
        direction=body.truncation_direction or "right",
        dimensions=body.dimensions,
    )


def join_instances(
    instances: Sequence[EmbedRequest], counts: list[int]
) -> tuple[Inputs, EmbedOptions]:
    """Inputs of all instances in one list, and their options; fills in how many each has.

    Raises:
        ServiceError: An instance that cannot be, or options or kinds of input that differ.
    """
    options = {options_of(instance) for instance in instances}
    joined: list[Any] = []
    for place, instance in enumerate(instances):
        if instance.encoding_format not in (None, "float") or instance.embedding_type not in (
            None,
            "float32",
        ):
            raise ValidationError("/vertex answers float32 numbers", param="instances")
        inputs = parse_inputs(instance.inputs, f"instances[{place}].inputs")
        counts.append(len(inputs))
        joined += inputs
    if len(options) > 1 or len({isinstance(item, str) for item in joined}) > 1:
        raise ValidationError(
            "instances must share their options and be all texts or all ids", param="instances"
        )
    return joined, options.pop()
