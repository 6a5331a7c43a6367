"""OpenAI-compatible routes: ``POST /v1/embeddings`` and ``GET /v1/models``."""

from __future__ import annotations

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.model.common.widths import takes_any_width
from osa.model.text.slices import Check, go_on
from osa.service.api.errors.examples import (
    DIMENSIONS,
    READING,
    UNKNOWN_AMONG_SEVERAL,
    UNKNOWN_MODEL,
    missing,
)
from osa.service.api.job import Job, RequestContext
from osa.service.api.openai.errors import OPENAI
from osa.service.api.openai.schemas import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    ModelEntry,
    ModelList,
)
from osa.service.api.openapi import failures, inference, reads
from osa.service.api.parsing import parse_body, parse_inputs
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.vector_encoding import (
    Answer,
    convert,
    encode_vector,
    to_json,
    vector_bytes,
    write_list,
)
from osa.service.inference.limits import no_text
from osa.service.inference.request import EmbedOptions, PreparedRequest
from osa.service.models.served_model import ServedModel

INFERENCE = inference(
    OPENAI, 404, samples={**missing("input"), **DIMENSIONS, **UNKNOWN_AMONG_SEVERAL}
)


def openai_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["OpenAI"])

    described = reads(EmbeddingsRequest)

    async def embeddings(request: Request) -> Response:
        """Embed texts or token ids, as OpenAI's endpoint of this name does."""

        def parse(context: RequestContext) -> Job:
            body = parse_body(context.raw, context.content_type, EmbeddingsRequest)
            several = len(pipeline.models.names()) > 1
            model = context.choose(body.model, strict=several, tasks=("embedding",))
            encoding = body.encoding_format or "float"
            if model.about.feature_size is not None:
                raise no_text(model.about)
            one = vector_bytes(body.dimensions or model.about.dimensions[0], "float32", encoding)
            return context.job(
                parse_inputs(body.input, "input"),
                EmbedOptions(dimensions=body.dimensions, prompt_name=body.prompt_name),
                lambda prepared, found: render_embeddings(
                    prepared, found.vectors, encoding, model.name, context.cancellation.check
                ),
                expected=lambda prepared: one * len(prepared.ids),
            )

        return await pipeline.handle(request, parse)

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
        responses=failures(OPENAI, 401, samples=READING),
    )
    async def models() -> ModelList:
        """What is served, the default first."""
        return ModelList(object="list", data=list(map(describe_entry, pipeline.models.all())))

    @router.get(
        "/v1/models/{model:path}",
        summary="Describe a served model",
        responses=failures(OPENAI, 401, 404, samples={**READING, **UNKNOWN_MODEL}),
    )
    async def one_model(model: str) -> ModelEntry:
        """A model by its name, which may have slashes."""
        return describe_entry(pipeline.models.find(model, strict=True))

    return router


def describe_entry(model: ServedModel) -> ModelEntry:
    """OpenAI's fields, then facts to choose a model by."""
    return ModelEntry(
        id=model.name,
        object="model",
        created=int(model.loaded_at),
        owned_by="osa",
        kind=model.about.task,
        dtype=model.about.dtype,
        dimensions=list(model.about.dimensions),
        any_dimension=takes_any_width(model.about.dimensions),
        max_input_length=model.embedder.max_input_length,
        prompts=sorted(model.embedder.prompts.by_name),
        default_prompt_name=model.embedder.prompts.default_name,
    )


def render_embeddings(
    prepared: PreparedRequest,
    vectors: np.ndarray,
    encoding: str,
    model_name: str,
    check: Check = go_on,
) -> Answer:
    """OpenAI's list object.

    Args:
        prepared: The request, for its number of tokens.
        vectors: Of its inputs [n, E].
        encoding: ``float``, or ``base64``: little-endian float32.
        model_name: Of the model that computed them.
        check: Called between steps.
    """

    def encode(vector: np.ndarray) -> np.ndarray | str:
        if encoding == "float":
            return vector
        return encode_vector(convert(vector[None], "float32")[0])

    entries = (
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(vectors)
    )
    answer = {
        "object": "list",
        "data": orjson.Fragment(write_list(entries, check)),
        "model": model_name,
        "usage": {"prompt_tokens": prepared.tokens, "total_tokens": prepared.tokens},
    }
    return to_json(answer)
