"""Native routes: ``POST /embed`` under every name that clients know, ``/similarity``, ``/info``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.model.calibration import Calibration
from osa.service.api.error_replies import ErrorBody
from osa.service.api.failure_examples import DIMENSIONS, READING, missing
from osa.service.api.openapi import failures, inference, reads
from osa.service.api.parsing import check_texts, name_of, parse_body, parse_inputs
from osa.service.api.pipeline import Call, InferencePipeline
from osa.service.api.streaming import NDJSON, stream, wants_lines
from osa.service.api.tei.schemas import (
    EmbedRequest,
    Info,
    SimilarityParameters,
    SimilarityRequest,
    VertexRequest,
    VertexResponse,
)
from osa.service.api.vector_encoding import (
    BYTES,
    JSON,
    Answer,
    convert,
    encode_vector,
    render_vectors,
)
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.request import Embedded, EmbedOptions, Inputs, PreparedRequest

TAG = "Embeddings"
INFERENCE = inference(ErrorBody, 422, samples={**missing("inputs"), **DIMENSIONS})
EMBED_ANSWER = inference(
    ErrorBody,
    422,
    samples={**missing("inputs"), **DIMENSIONS},
    description="Vectors: a list each, or base64 strings, or bytes with shape and type in headers",
    content={
        JSON: {
            "schema": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"type": "array", "items": {"type": "number"}},
                        {"type": "string", "format": "byte"},
                    ]
                },
            },
            "example": [[0.0125, -0.0421, 0.0733], [0.0514, 0.0082, -0.0196]],
        },
        BYTES: {"schema": {"type": "string", "format": "binary"}},
        NDJSON: {
            "schema": {"type": "string", "description": "A JSON object a line."},
            "example": '{"index":0,"embedding":[0.0125,-0.0421,0.0733]}\n',
        },
    },
)


def native_routes(pipeline: InferencePipeline, describe: Callable[[], Info]) -> APIRouter:
    """Routes bound to a pipeline; ``describe`` tells what is served."""
    router = APIRouter()
    described = reads(EmbedRequest)

    async def embed(request: Request) -> Response:
        """Embed texts or token ids; always a list of vectors."""
        chosen: dict[str, EmbedRequest] = {}
        ranges: list[Calibration | None] = []

        def parse(call: Call) -> PreparedRequest:
            body = chosen["body"] = parse_body(call.raw, call.content_type, EmbedRequest)
            model = call.choose(name_of(body.model))
            ranges.append(model.calibration)
            check_type(body, ranges[0], body.dimensions or model.about.dimensions[0])
            inputs = parse_inputs(body.inputs, "inputs")
            if wants_lines(request) and body.encoding_format == "bytes":
                raise ValidationError(
                    f"{NDJSON} holds float or base64, not bytes", param="encoding_format"
                )
            return call.prepare(inputs, options_of(body))

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            body = chosen["body"]
            kind, encoding = body.embedding_type or "float32", body.encoding_format or "float"
            return render_vectors(embedded.vectors, kind, encoding, ranges[0])

        if wants_lines(request):
            return await stream(
                pipeline, request, parse, lambda one: line(one, chosen["body"], ranges[0])
            )
        return await pipeline.handle(request, parse, render)

    def serve(path: str, summary: str) -> None:
        router.add_api_route(
            path,
            embed,
            methods=["POST"],
            tags=[TAG],
            summary=summary,
            responses=EMBED_ANSWER,
            openapi_extra=described,
        )

    serve("/embed", "Embed texts or token ids")

    @router.post(
        "/similarity",
        tags=[TAG],
        summary="Compare a sentence with others",
        response_model=list[float],
        responses=inference(ErrorBody, 422, samples=missing("inputs", "sentences")),
        openapi_extra=reads(SimilarityRequest),
    )
    async def similarity(request: Request) -> Response:
        """Cosine of a sentence with each of others."""

        def parse(call: Call) -> PreparedRequest:
            body = parse_body(call.raw, call.content_type, SimilarityRequest)
            call.choose(name_of(body.model))
            parameters = body.parameters or SimilarityParameters()
            options = EmbedOptions(
                truncate=parameters.truncate,
                direction=parameters.truncation_direction or "right",
            )
            check_texts([body.inputs.source_sentence], "source_sentence")
            check_texts(body.inputs.sentences, "sentences")
            texts = [body.inputs.source_sentence, *body.inputs.sentences]
            return call.prepare(texts, options)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            vectors = embedded.vectors
            cosines = (vectors[1:] * vectors[0]).sum(axis=1)
            return Answer(orjson.dumps(cosines, option=orjson.OPT_SERIALIZE_NUMPY))

        return await pipeline.handle(request, parse, render)

    serve("/", "Embed texts, for Hugging Face's clients")
    serve("/invocations", "Embed texts, for SageMaker")

    @router.post(
        "/vertex",
        tags=[TAG],
        summary="Embed texts, for Vertex AI",
        response_model=VertexResponse,
        responses=inference(ErrorBody, 422, samples={**missing("instances"), **DIMENSIONS}),
        openapi_extra=reads(VertexRequest),
    )
    async def vertex(request: Request) -> Response:
        """Embed requests in the envelope of Vertex AI."""
        counts: list[int] = []

        def parse(call: Call) -> PreparedRequest:
            instances = parse_body(call.raw, call.content_type, VertexRequest).instances
            if not instances:
                raise EmptyInputError("instances is empty", param="instances")
            inputs, options = join_instances(instances, counts)
            call.choose(name_of(instances[0].model))
            return call.prepare(inputs, options)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            parts = np.split(embedded.vectors, np.cumsum(counts)[:-1])
            body = {"predictions": parts}
            return Answer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

        return await pipeline.handle(request, parse, render)

    @router.get(
        "/info",
        tags=["Operations"],
        summary="What is served, and its limits",
        responses=failures(ErrorBody, 401, samples=READING),
    )
    async def info() -> Info:
        """What is served, and its limits."""
        return describe()

    return router


def check_type(body: EmbedRequest, ranges: Calibration | None, width: int) -> None:
    """Refuse element types that the model's vectors of ``width`` cannot be put in.

    Raises:
        ValidationError: int8 or uint8 without a calibration, or of vectors of any length.
    """
    if body.embedding_type not in ("int8", "uint8"):
        return
    if ranges is None:
        raise ValidationError(
            f"{body.embedding_type} needs a calibration, which this model has not: 'osa calibrate'",
            param="embedding_type",
        )
    if width not in ranges.bounds:
        raise ValidationError(
            f"{body.embedding_type} is calibrated for dimensions "
            f"{', '.join(map(str, ranges.bounds))}, got {width}",
            param="dimensions",
        )
    if body.normalize is False:
        raise ValidationError(
            f"{body.embedding_type} is for unit vectors: leave normalize out", param="normalize"
        )


def line(one: Embedded, body: EmbedRequest, ranges: Calibration | None) -> Any:
    """What stands in an input's line of a streamed answer: numbers, or base64."""
    elements = convert(one.vectors, body.embedding_type or "float32", ranges)[0]
    if body.encoding_format == "base64":
        return encode_vector(elements)
    return elements.astype(np.float32) if elements.dtype == np.float16 else elements


def options_of(body: EmbedRequest) -> EmbedOptions:
    """The use case's options of a request."""
    return EmbedOptions(
        normalize=body.normalize is not False,
        truncate=body.truncate,
        direction=body.truncation_direction or "right",
        dimensions=body.dimensions,
        prompt_name=body.prompt_name,
    )


def join_instances(
    instances: Sequence[EmbedRequest], counts: list[int]
) -> tuple[Inputs, EmbedOptions]:
    """Inputs of all instances in one list, and their options; fills in how many each has.

    Raises:
        ServiceError: An instance that cannot be, or options or kinds of input that differ.
    """
    options = {options_of(instance) for instance in instances}
    names = {name_of(instance.model) for instance in instances}
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
    if len(options) > 1 or len(names) > 1 or len({isinstance(item, str) for item in joined}) > 1:
        raise ValidationError(
            "instances must share model and options, and be all texts or all ids",
            param="instances",
        )
    return joined, options.pop()
