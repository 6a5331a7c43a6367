"""Routes below single vectors: ``POST /embed_all`` and ``POST /embed_chunks`` (late chunking).

A document is encoded once, whole; each chunk's vector is pooled from its tokens' vectors, which
have seen all of it. Source: Guenther et al., "Late Chunking", arXiv:2409.04701.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from osa.service.api.openapi import reads
from osa.service.api.parsing import check_texts, name_of, parse_body, parse_inputs
from osa.service.api.pipeline import Call, InferencePipeline
from osa.service.api.tei.document_schemas import (
    ChunkEmbedding,
    ChunkingOptions,
    EmbedAllRequest,
    EmbedChunksRequest,
)
from osa.service.api.tei.embed import INFERENCE
from osa.service.api.vector_encoding import Answer
from osa.service.errors import ValidationError
from osa.service.inference.chunking import Chunk, Chunking, cut, pool_chunk
from osa.service.inference.embedder import unit
from osa.service.inference.request import Embedded, EmbedOptions, PreparedRequest
from osa.service.models.served_model import ServedModel


def document_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Documents"])

    @router.post(
        "/embed_all",
        summary="Embed every token",
        response_model=list[list[list[float]]],
        responses=INFERENCE,
        openapi_extra=reads(EmbedAllRequest),
    )
    async def embed_all(request: Request) -> Response:
        """One vector a token, special tokens included."""
        chosen: dict[str, bool] = {}

        def parse(call: Call) -> PreparedRequest:
            body = parse_body(call.raw, call.content_type, EmbedAllRequest)
            call.choose(name_of(body.model))
            chosen["normalize"] = bool(body.normalize)
            options = EmbedOptions(
                truncate=body.truncate,
                direction=body.truncation_direction or "right",
                dimensions=body.dimensions,
                tokens=True,
                prompted=False,
            )
            inputs = parse_inputs(body.inputs, "inputs")
            return call.prepare(inputs, options)

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            rows = (
                [unit(row) for row in embedded.tokens] if chosen["normalize"] else embedded.tokens
            )
            return _json([np.ascontiguousarray(row) for row in rows])

        return await pipeline.handle(request, parse, render)

    @router.post(
        "/embed_chunks",
        summary="Embed chunks of documents, each in its context",
        response_model=list[list[ChunkEmbedding]],
        responses=INFERENCE,
        openapi_extra=reads(EmbedChunksRequest),
    )
    async def embed_chunks(request: Request) -> Response:
        """A vector a chunk of each document, each seen in its whole document."""
        plan: list[tuple[str, list[Chunk]]] = []
        chosen: dict[str, EmbedChunksRequest] = {}
        served: list[ServedModel] = []

        def parse(call: Call) -> PreparedRequest:
            body = chosen["body"] = parse_body(call.raw, call.content_type, EmbedChunksRequest)
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            check_texts(texts, "inputs")
            served.append(call.choose(name_of(body.model)))
            tokenizer = call.model.tokenizer
            chunking = read_chunking(
                body.chunking or ChunkingOptions(), len(texts), isinstance(body.inputs, str)
            )
            options = EmbedOptions(
                truncate=body.truncate, dimensions=body.dimensions, tokens=True, prompted=False
            )
            prepared = call.prepare(texts, options)
            special = tokenizer.num_special_tokens
            for row, offsets in enumerate(tokenizer.offsets(texts)):
                kept = offsets[: len(prepared.ids[row]) - special]
                plan.append((texts[row], cut(texts[row], kept, chunking, row)))
            return prepared

        def render(prepared: PreparedRequest, embedded: Embedded) -> Answer:
            body = chosen["body"]
            answer = [
                _render_chunks(text, chunks, tokens, body, served[0])
                for (text, chunks), tokens in zip(plan, embedded.tokens, strict=True)
            ]
            return _json(answer)

        return await pipeline.handle(request, parse, render)

    def _render_chunks(
        text: str,
        chunks: list[Chunk],
        tokens: np.ndarray,
        body: EmbedChunksRequest,
        model: ServedModel,
    ) -> list[dict[str, Any]]:
        if not chunks:
            return []
        prefix, pooling = len(model.tokenizer.prefix), model.about.pooling
        vectors = np.stack([pool_chunk(tokens, chunk, prefix, pooling) for chunk in chunks])
        if body.normalize is not False:
            vectors = unit(vectors)
        entries = []
        for chunk, vector in zip(chunks, vectors, strict=True):
            entry: dict[str, Any] = {"start": chunk.start, "end": chunk.end}
            if body.return_text:
                entry["text"] = text[chunk.start : chunk.end]
            entries.append({**entry, "embedding": vector})
        return entries

    return router


def read_chunking(options: ChunkingOptions, texts: int, single: bool) -> Chunking:
    """Check what cannot be said in a schema.

    Raises:
        ValidationError: Overlapping windows that do not advance, or spans that do not fit.
    """
    if options.overlap >= options.size:
        raise ValidationError(
            f"chunking.overlap must be below chunking.size, got {options.overlap} and "
            f"{options.size}",
            param="chunking",
        )
    if (options.spans is None) == (options.strategy == "spans"):
        raise ValidationError(
            "chunking.spans must be given with the strategy spans, and with no other",
            param="chunking",
        )
    spans = None
    if options.spans is not None:
        rows = [options.spans] if single else options.spans
        if len(rows) != texts:
            raise ValidationError(
                f"chunking.spans must be a list for each of {texts} inputs, got {len(rows)}",
                param="chunking",
            )
        spans = [_read_spans(row, place) for place, row in enumerate(rows)]
    return Chunking(options.strategy, options.size, options.overlap, spans)


def _read_spans(row: Any, place: int) -> list[tuple[int, int]]:
    fits = isinstance(row, list) and all(
        isinstance(span, list) and len(span) == 2 and all(type(part) is int for part in span)
        for span in row
    )
    if not fits:
        raise ValidationError(
            f"chunking.spans[{place}] must be a list of [start, end] integers", param="chunking"
        )
    return [(start, end) for start, end in row]


def _json(value: Any) -> Answer:
    return Answer(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
