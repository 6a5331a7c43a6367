"""Vectors of tokens and of chunks: ``POST /embed_all`` and ``POST /embed_chunks`` (late chunking).

A document is encoded once, whole; each chunk's vector is pooled from its tokens' vectors, which
have seen all of it. Source: Guenther et al., "Late Chunking", arXiv:2409.04701.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from osa.service.api.feature_inputs import naming_non_finite, parse_model_inputs
from osa.service.api.job import Job, RequestContext
from osa.service.api.openapi import reads
from osa.service.api.parsing import check_texts, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.tei.document_schemas import (
    ChunkEmbedding,
    ChunkingOptions,
    EmbedAllRequest,
    EmbedChunksRequest,
)
from osa.service.api.tei.embed import INFERENCE
from osa.service.api.vector_encoding import Answer, to_json
from osa.service.errors import ValidationError
from osa.service.inference.chunking import Chunk, Chunking, Offsets, cut
from osa.service.inference.embedder import unit
from osa.service.inference.request import Embedded, EmbedOptions


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
        """One vector per token, special tokens included; or per row of features."""

        def parse(context: RequestContext) -> Job:
            with naming_non_finite(context, "inputs"):
                body = parse_body(context.raw, context.content_type, EmbedAllRequest)
            model = context.choose(name_of(body.model), tasks=("embedding",))
            options = EmbedOptions(
                truncate=body.truncate,
                direction=body.truncation_direction or "right",
                dimensions=body.dimensions,
                token_vectors=True,
                parse_special=body.parse_special_tokens is True,
                prompted=False,
            )
            shape = unit if body.normalize else np.ascontiguousarray
            return context.job(
                parse_model_inputs(body.inputs, "inputs", model.about),
                options,
                lambda _, found: to_json([shape(row) for row in found.token_vectors]),
            )

        return await pipeline.handle(request, parse)

    @router.post(
        "/embed_chunks",
        summary="Embed chunks of documents, each in its context",
        response_model=list[list[ChunkEmbedding]],
        responses=INFERENCE,
        openapi_extra=reads(EmbedChunksRequest),
    )
    async def embed_chunks(request: Request) -> Response:
        """One vector per chunk of each document, computed in the context of the whole document."""

        def parse(context: RequestContext) -> Job:
            body = parse_body(context.raw, context.content_type, EmbedChunksRequest)
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            check_texts(texts, "inputs")
            model = context.choose(name_of(body.model), tasks=("embedding",))
            chunking = read_chunking(
                body.chunking or ChunkingOptions(), len(texts), isinstance(body.inputs, str)
            )
            options = EmbedOptions(
                truncate=body.truncate,
                dimensions=body.dimensions,
                parse_special=body.parse_special_tokens is True,
                prompted=False,
            )
            chunks: list[list[Chunk]] = []

            def split(index: int, offsets: Offsets) -> list[tuple[int, int]]:
                chunks.append(cut(texts[index], offsets, chunking, index))
                return [(chunk.first, chunk.stop) for chunk in chunks[-1]]

            prepared = model.embedder.prepare_spans(texts, options, context.started, split)
            return Job(model, prepared, lambda found: render_chunks(body, texts, chunks, found))

        return await pipeline.handle(request, parse)

    return router


def render_chunks(
    body: EmbedChunksRequest,
    texts: Sequence[str],
    chunks: Sequence[Sequence[Chunk]],
    found: Embedded,
) -> Answer:
    """The answer of ``/embed_chunks``: for each text a list of its chunks with their vectors.

    Args:
        body: The request.
        texts: Its documents.
        chunks: Of each document.
        found: Their vectors.
    """
    answer = []
    for text, parts, vectors in zip(texts, chunks, found.span_vectors, strict=True):
        shown = vectors if body.normalize is False else unit(vectors)
        entries = []
        for chunk, vector in zip(parts, np.ascontiguousarray(shown), strict=True):
            entry: dict[str, Any] = {"start": chunk.start, "end": chunk.end}
            if body.return_text:
                entry["text"] = text[chunk.start : chunk.end]
            entries.append({**entry, "embedding": vector})
        answer.append(entries)
    return to_json(answer)


def read_chunking(options: ChunkingOptions, texts: int, single: bool) -> Chunking:
    """Check what a JSON schema cannot express.

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
