"""Native routes: ``POST /embed`` under every name that clients know, ``/similarity``, ``/info``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response

from osa.model.calibration import Calibration
from osa.model.text.slices import Check
from osa.service.api.errors.examples import DIMENSIONS, READING, UNKNOWN_MODEL, missing
from osa.service.api.feature_inputs import naming_non_finite, parse_model_inputs
from osa.service.api.job import Job, RequestContext
from osa.service.api.openapi import failures, inference, reads
from osa.service.api.parsing import check_texts, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.shared_fields import TextParameters
from osa.service.api.streaming import NDJSON, respond, wants_lines
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.info_schemas import Info
from osa.service.api.tei.schemas import (
    EmbedRequest,
    SimilarityRequest,
    VertexRequest,
    VertexResponse,
)
from osa.service.api.vector_encoding import (
    BYTES,
    JSON,
    Answer,
    EmbeddingType,
    EncodingFormat,
    check_packing,
    convert,
    encode_vector,
    render_vectors,
    to_json,
    vector_bytes,
    write_rows,
)
from osa.service.engines.base import EngineInfo
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.limits import check_dimensions
from osa.service.inference.request import Embedded, EmbedOptions, Inputs, PreparedRequest
from osa.service.models.served_model import ServedModel

TAG = "Embeddings"
ASKED = "Name of a served model; without it the default one is described."
INFERENCE = inference(NATIVE, 422, samples={**missing("inputs"), **DIMENSIONS})
EMBED_ANSWER = inference(
    NATIVE,
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


def native_routes(
    pipeline: InferencePipeline, describe: Callable[[ServedModel], Info]
) -> APIRouter:
    """Routes bound to a pipeline; ``describe`` tells the facts of a model."""
    router = APIRouter()
    described = reads(EmbedRequest)

    async def embed(request: Request) -> Response:
        """Embed texts, token ids or features; always a list of vectors."""
        lines = wants_lines(request)

        def parse(context: RequestContext) -> Job:
            with naming_non_finite(context, "inputs"):
                body = parse_body(context.raw, context.content_type, EmbedRequest)
            model = context.choose(name_of(body.model), tasks=("embedding",))
            ranges = model.calibration
            check_dimensions(model.about, body.dimensions)
            check_type(body, ranges, body.dimensions or model.about.dimensions[0])
            inputs = parse_model_inputs(body.inputs, "inputs", model.about)
            if lines and body.encoding_format == "bytes":
                raise ValidationError(
                    f"{NDJSON} holds float or base64, not bytes", param="encoding_format"
                )
            kind, encoding = body.embedding_type or "float32", body.encoding_format or "float"
            one = vector_bytes(body.dimensions or model.about.dimensions[0], kind, encoding)
            return context.job(
                inputs,
                options_of(body),
                lambda _, found: render_vectors(
                    found.vectors, kind, encoding, ranges, context.cancellation.check
                ),
                lambda _, found: {"embedding": render_item(found, kind, encoding, ranges)},
                expected=lambda prepared: one * (1 if lines else len(prepared.ids)),
            )

        return await respond(pipeline, request, parse)

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

    serve("/embed", "Embed texts, token ids or features")

    @router.post(
        "/similarity",
        tags=[TAG],
        summary="Compare a sentence with others",
        response_model=list[float],
        responses=inference(NATIVE, 422, samples=missing("inputs", "sentences")),
        openapi_extra=reads(SimilarityRequest),
    )
    async def similarity(request: Request) -> Response:
        """Cosine of a sentence with each of others."""

        def parse(context: RequestContext) -> Job:
            body = parse_body(context.raw, context.content_type, SimilarityRequest)
            context.choose(name_of(body.model), tasks=("embedding",))
            options = (body.parameters or TextParameters()).options()
            check_texts([body.inputs.source_sentence], "source_sentence")
            check_texts(body.inputs.sentences, "sentences")
            texts = [body.inputs.source_sentence, *body.inputs.sentences]
            return context.job(texts, options, render_cosines)

        return await pipeline.handle(request, parse)

    serve("/", "Embed texts, for Hugging Face's clients")
    serve("/invocations", "Embed texts, for SageMaker")

    @router.post(
        "/vertex",
        tags=[TAG],
        summary="Embed texts, for Vertex AI",
        response_model=VertexResponse,
        responses=inference(NATIVE, 422, samples={**missing("instances"), **DIMENSIONS}),
        openapi_extra=reads(VertexRequest),
    )
    async def vertex(request: Request) -> Response:
        """Embed requests in the envelope of Vertex AI."""

        def parse(context: RequestContext) -> Job:
            body = parse_body(context.raw, context.content_type, VertexRequest)
            if not body.instances:
                raise EmptyInputError("instances is empty", param="instances")
            instances = with_parameters(body)
            model = context.choose(name_of(instances[0].model), tasks=("embedding",))
            inputs, counts, options = join_instances(instances, model.about)
            ends = np.cumsum(counts)[:-1]
            one = vector_bytes(options.dimensions or model.about.dimensions[0], "float32", "float")
            return context.job(
                inputs,
                options,
                lambda _, found: render_predictions(
                    np.split(found.vectors, ends), context.cancellation.check
                ),
                expected=lambda prepared: one * len(prepared.ids),
            )

        return await pipeline.handle(request, parse)

    @router.get(
        "/info",
        tags=["Operations"],
        summary="What is served, and its limits",
        responses=failures(NATIVE, 401, 404, samples={**READING, **UNKNOWN_MODEL}),
    )
    async def info(model: Annotated[str | None, Query(description=ASKED)] = None) -> Info:
        """A model, the default one if none is named, and its limits."""
        return describe(pipeline.models.find(model, strict=True))

    return router


def check_type(body: EmbedRequest, ranges: Calibration | None, width: int) -> None:
    """Refuse element types that are not available for vectors of ``width``.

    Raises:
        ValidationError: int8 or uint8 without a calibration, or of vectors of any length; a width
            that does not fill the bytes of binary or ubinary.
    """
    check_packing(body.embedding_type, width)
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


def render_item(
    found: Embedded, kind: EmbeddingType, encoding: EncodingFormat, ranges: Calibration | None
) -> np.ndarray | str:
    """One input's entry in a streamed answer.

    Args:
        found: Its vector [1, E].
        kind: Element type.
        encoding: ``float`` or ``base64``.
        ranges: Calibration of int8 and uint8.
    """
    elements: np.ndarray = convert(found.vectors, kind, ranges)[0]
    if encoding == "base64":
        return encode_vector(elements)
    return elements.astype(np.float32) if elements.dtype == np.float16 else elements


def render_predictions(instances: Sequence[np.ndarray], check: Check) -> Answer:
    """Vectors of each instance [n, E] in the envelope of Vertex AI; ``check`` between steps."""
    rows = [orjson.Fragment(write_rows(vectors, check)) for vectors in instances]
    return to_json({"predictions": rows})


def render_cosines(prepared: PreparedRequest, found: Embedded) -> Answer:
    """Cosines of the first vector with each of the others."""
    return to_json((found.vectors[1:] * found.vectors[0]).sum(axis=1))


def options_of(body: EmbedRequest) -> EmbedOptions:
    """The use case's options of a request."""
    return EmbedOptions(
        normalize=body.normalize is not False,
        truncate=body.truncate,
        direction=body.truncation_direction or "right",
        dimensions=body.dimensions,
        prompt_name=body.prompt_name,
        parse_special=body.parse_special_tokens is True,
    )


def with_parameters(body: VertexRequest) -> list[EmbedRequest]:
    """Instances with what the parameters say where they say nothing."""
    if body.parameters is None:
        return list(body.instances)
    common = body.parameters.model_dump(exclude_none=True)
    return [
        instance.model_copy(
            update={n: value for n, value in common.items() if getattr(instance, n) is None}
        )
        for instance in body.instances
    ]


def join_instances(
    instances: Sequence[EmbedRequest], about: EngineInfo
) -> tuple[Inputs, list[int], EmbedOptions]:
    """Inputs of all instances in one list, how many each has, and their common options.

    Raises:
        ServiceError: An instance that is not valid, or options or kinds of input that differ.
    """
    options = {options_of(instance) for instance in instances}
    names = {name_of(instance.model) for instance in instances}
    joined: list[Any] = []
    counts: list[int] = []
    for place, instance in enumerate(instances):
        inputs = parse_model_inputs(instance.inputs, f"instances[{place}].inputs", about)
        counts.append(len(inputs))
        joined += inputs
    if len(options) > 1 or len(names) > 1:
        raise ValidationError("instances must share model and options", param="instances")
    return joined, counts, options.pop()
