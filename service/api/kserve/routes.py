"""Open Inference Protocol (KServe v2) over HTTP, with its binary tensor extension.

Names of models may contain slashes. ``jobs`` makes the work of a request, ``mapping`` relates its
tensors to inputs, ``binary_tensors`` reads them.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from osa.service.api import headers
from osa.service.api.errors.examples import (
    DIMENSIONS,
    HUNG,
    NO_PAIRS,
    READING,
    TENSORS,
    UNREADY,
    missing,
)
from osa.service.api.job import Job, RequestContext
from osa.service.api.kserve.binary_tensors import split_body
from osa.service.api.kserve.errors import KSERVE
from osa.service.api.kserve.jobs import find_model, infer_job, render_tensors
from osa.service.api.kserve.mapping import describe_model
from osa.service.api.kserve.schemas import (
    InferRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelNames,
    ModelReady,
    Ready,
    ServerMetadata,
)
from osa.service.api.openapi import failures, inference, reads
from osa.service.api.parsing import parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.vector_encoding import BYTES, JSON
from osa.service.errors import MediaTypeError, UnavailableError
from osa.service.models.health import Health
from osa.service.models.served_model import ServedModel

MODEL, VERSIONED = "/v2/models/{model:path}", "/v2/models/{model:path}/versions/{version}"
LENGTH = {
    "name": headers.JSON_LENGTH,
    "in": "header",
    "required": False,
    "description": "Bytes of the JSON; behind it come those of binary tensors.",
    "schema": {"type": "integer", "minimum": 1},
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER_BODY = reads(InferRequest)
INFER_BODY["parameters"].append(LENGTH)
INFER_BODY["requestBody"]["content"][BYTES] = BINARY
INFER_ANSWER = inference(
    KSERVE,
    404,
    samples={**missing("inputs"), **DIMENSIONS, **TENSORS, **NO_PAIRS},
    description=f"Tensors; binary ones behind the JSON, whose length is in {headers.JSON_LENGTH}",
    content={BYTES: BINARY},
)


def kserve_routes(pipeline: InferencePipeline, health: Health, version: str) -> APIRouter:
    """Routes bound to a pipeline, the state of the process and the server's version."""
    models = pipeline.models
    router = APIRouter(tags=["KServe"])
    probed = failures(KSERVE, 503, samples=UNREADY)
    named = failures(KSERVE, 401, 404, samples={**READING, **TENSORS})

    def find(name: str, version: str | None) -> ServedModel:
        return find_model(models, name, version)

    def probe(problem: str | None, body: dict[str, Any]) -> Response:
        if problem is None:
            return JSONResponse(body)
        reply = KSERVE.reply(UnavailableError(problem))
        return JSONResponse(reply.body, reply.status, reply.headers)

    @router.get(
        "/v2",
        summary="Name, version and extensions",
        responses=failures(KSERVE, 401, samples=READING),
    )
    async def server() -> ServerMetadata:
        """Name, version and extensions of the server."""
        return ServerMetadata(name="osa", version=version, extensions=["binary_tensor_data"])

    @router.get(
        "/v2/health/live", summary="Whether the process lives", response_model=Live,
        responses=failures(KSERVE, 503, samples=HUNG),
    )  # fmt: skip
    async def live() -> Response:
        """503 when the process should be restarted."""
        return probe(health.live_problem(), {"live": True})

    @router.get(
        "/v2/health/ready", summary="Whether traffic is wanted", response_model=Ready,
        responses=probed,
    )  # fmt: skip
    async def ready() -> Response:
        """503 when the process should get no traffic."""
        return probe(health.ready_problem(), {"ready": True})

    @router.get(
        "/v2/models", summary="Names of the served models",
        responses=failures(KSERVE, 401, samples=READING),
    )  # fmt: skip
    async def model_names() -> ModelNames:
        """What is served, the default first."""
        return ModelNames(models=models.names())

    def model_probe(model: str, version: str | None) -> Response:
        name = find(model, version).name
        return probe(health.ready_problem(), {"name": name, "ready": True})

    @router.get(
        f"{VERSIONED}/ready", summary="Whether a version of a model is ready",
        response_model=ModelReady, responses={**named, **probed},
    )  # fmt: skip
    async def version_ready(model: str, version: str) -> Response:
        """503 when the model should get no traffic."""
        return model_probe(model, version)

    @router.get(
        f"{MODEL}/ready", summary="Whether a model is ready", response_model=ModelReady,
        responses={**named, **probed},
    )  # fmt: skip
    async def model_ready(model: str) -> Response:
        """503 when the model should get no traffic."""
        return model_probe(model, None)

    @router.post(
        f"{VERSIONED}/infer",
        summary="Compute with a version of a model",
        response_model=InferResponse,
        responses=INFER_ANSWER,
        openapi_extra=INFER_BODY,
    )
    async def infer_version(request: Request, model: str, version: str) -> Response:
        """Vectors, logits or weights of texts, pairs of texts, token ids or features."""
        return await infer_with(request, pipeline, find(model, version).name)

    @router.post(
        f"{MODEL}/infer",
        summary="Compute with a model",
        response_model=InferResponse,
        responses=INFER_ANSWER,
        openapi_extra=INFER_BODY,
    )
    async def infer_model(request: Request, model: str) -> Response:
        """Vectors, logits or weights of texts, pairs of texts, token ids or features."""
        return await infer_with(request, pipeline, find(model, None).name)

    @router.get(VERSIONED, summary="Tensors of a version of a model", responses=named)
    async def version_metadata(model: str, version: str) -> ModelMetadata:
        """Versions and tensors of a model."""
        return describe_model(find(model, version))

    @router.get(MODEL, summary="Versions and tensors of a model", responses=named)
    async def model_metadata(model: str) -> ModelMetadata:
        """Versions and tensors of a model."""
        if model not in models.names() and model.endswith("/infer"):  # names may have slashes too
            raise HTTPException(405, headers={"Allow": "POST"})
        return describe_model(find(model, None))

    return router


async def infer_with(request: Request, pipeline: InferencePipeline, name: str) -> Response:
    """Answer an inference request with one model."""

    def parse(context: RequestContext) -> Job:
        context.choose(name, strict=True)
        length = request.headers.get(headers.JSON_LENGTH)
        check_media_type(context.content_type, length)
        text, tail = split_body(context.raw, length)
        body = parse_body(text, JSON, InferRequest)
        check = context.cancellation.check
        return infer_job(
            context, body, tail, lambda outputs: render_tensors(outputs, body, name, check)
        )

    return await pipeline.handle(request, parse)


def check_media_type(content_type: str | None, json_length: str | None) -> None:
    """Refuse bodies of another media type.

    Raises:
        MediaTypeError: Saying what came.
    """
    media_type = (content_type or JSON).partition(";")[0].strip().lower()
    if media_type == BYTES and json_length is None:
        raise MediaTypeError(f"{BYTES} needs the header {headers.JSON_LENGTH}")
    if media_type not in (JSON, BYTES) and not media_type.endswith("+json"):
        raise MediaTypeError(f"content type must be {JSON} or {BYTES}, got {media_type[:64]!r}")
