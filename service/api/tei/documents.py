"""Vectors of tokens and of chunks: ``POST /embed_all`` and ``POST /embed_chunks`` (late chunking).

A document is encoded once, whole; each chunk's vector is pooled from its tokens' vectors, which
have seen all of it. Source: Guenther et al., "Late Chunking", arXiv:2409.04701. With ``vectors``
the chunks of a document become a few vectors.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from osa.model.documents.chunk_ranges import Offsets
from osa.service.api.feature_inputs import naming_non_finite, parse_model_inputs
from osa.service.api.job import Job, RequestContext
from osa.service.api.openapi import reads
from osa.service.api.parsing import check_texts, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.streaming import NDJSON, respond, wants_lines
from osa.service.api.tei.document_answers import ChunkVectors, TokenVectors, VectorForm
from osa.service.api.tei.document_schemas import (
    CHUNKS_ANSWER,
    TOKENS_ANSWER,
    ChunkEmbedding,
    ChunkingOptions,
    DocumentVector,
    EmbedAllRequest,
    EmbedChunksRequest,
)
from osa.service.api.vector_encoding import EncodingFormat, check_packing
from osa.service.errors import ValidationError
from osa.service.inference.chunking import (
    Chunking,
    check_chunks,
    check_request_chunks,
    cut,
)
from osa.service.inference.request import EmbedOptions
from osa.service.models.served_model import ServedModel

MOST_LENGTHS = 256
"""Inputs whose lengths go in a header: proxies commonly take 4 to 8 kB of headers."""


def document_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Documents"])

    @router.post(
        "/embed_all",
        summary="Embed every token",
        responses=TOKENS_ANSWER,
        openapi_extra=reads(EmbedAllRequest),
    )
    async def embed_all(request: Request) -> Response:
        """One vector per token, special tokens included; or per row of features."""
        lines = wants_lines(request)

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
            form = form_of(model, body, body.normalize is True)
            inputs = parse_model_inputs(body.inputs, "inputs", model.about)
            check_bytes(form.encoding, lines, len(inputs))
            rows = TokenVectors(len(inputs), form, context.answers, context.cancellation.check)
            return context.job(
                inputs,
                options,
                lambda *_: rows.render(),
                rows.line,
                rows.take,
                rows.expected_line if lines else rows.expected,
            )

        return await respond(pipeline, request, parse)

    @router.post(
        "/embed_chunks",
        summary="Embed chunks of documents, each in its context",
        response_model=list[list[ChunkEmbedding | DocumentVector]],
        responses=CHUNKS_ANSWER,
        openapi_extra=reads(EmbedChunksRequest),
    )
    async def embed_chunks(request: Request) -> Response:
        """One vector per chunk of each document, computed in the context of the whole document.

        With `vectors`, at most so many a document: its chunks in groups of similar ones.
        """
        lines = wants_lines(request)

        def parse(context: RequestContext) -> Job:
            body = parse_body(context.raw, context.content_type, EmbedChunksRequest)
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            check_texts(texts, "inputs")
            check_groups(body)
            model = context.choose(name_of(body.model), tasks=("embedding",))
            check_spans(model)
            chunking = read_chunking(
                body.chunking or ChunkingOptions(), len(texts), isinstance(body.inputs, str)
            )
            options = EmbedOptions(
                truncate=body.truncate,
                dimensions=body.dimensions,
                parse_special=body.parse_special_tokens is True,
                prompted=False,
            )
            check = context.cancellation.check
            rows = ChunkVectors(
                texts,
                form_of(model, body, body.normalize is not False),
                body.return_text is True,
                context.answers,
                check,
                body.vectors,
            )
            count, size = 0, 0.0  # of all chunks so far

            def split(index: int, offsets: Offsets) -> list[tuple[int, int]]:
                nonlocal count, size
                rows.chunks.append(cut(texts[index], offsets, chunking, index))
                count += len(rows.chunks[-1])
                check_request_chunks(count)
                one = rows.size(index)
                size += one
                context.answers.check(one if lines else size)
                return [(chunk.first, chunk.stop) for chunk in rows.chunks[-1]]

            prepared = model.embedder.prepare_spans(texts, options, context.started, split, check)
            return Job(model, prepared, lambda _: rows.render(), rows.line, rows.take)

        return await respond(pipeline, request, parse)

    return router


def form_of(
    model: ServedModel, body: EmbedAllRequest | EmbedChunksRequest, normalize: bool
) -> VectorForm:
    """How the vectors of a request are written.

    Raises:
        ValidationError: A type that needs a calibration, which is of whole texts' vectors; a width
            that does not fill the bytes of binary or ubinary.
    """
    kind = body.embedding_type or "float32"
    if kind in ("int8", "uint8"):
        raise ValidationError(
            f"{kind} is calibrated for vectors of whole texts: take float16, binary or ubinary",
            param="embedding_type",
        )
    width = body.dimensions or model.about.dimensions[0]
    check_packing(kind, width)
    return VectorForm(width, normalize, kind, body.encoding_format or "float")


def check_bytes(encoding: EncodingFormat, lines: bool, inputs: int) -> None:
    """Refuse bytes where they cannot be told apart.

    Raises:
        ValidationError: In lines, or of so many inputs that their lengths fit no header.
    """
    if encoding != "bytes":
        return
    if lines:
        raise ValidationError(f"{NDJSON} holds float or base64, not bytes", param="encoding_format")
    if inputs > MOST_LENGTHS:
        raise ValidationError(
            f"bytes are of at most {MOST_LENGTHS} inputs, whose lengths are in a header, got "
            f"{inputs}: take base64, or send the inputs in parts",
            param="encoding_format",
        )


def check_spans(model: ServedModel) -> None:
    """Refuse chunks of a model whose ranges of tokens have no vectors.

    Raises:
        ValidationError: Saying why.
    """
    if model.about.no_spans:
        raise ValidationError(model.about.no_spans, param="model")


def check_groups(body: EmbedChunksRequest) -> None:
    """Refuse vectors of groups with a length of their own, which they have not.

    Raises:
        ValidationError: Vectors that are not to be normalised.
    """
    if body.vectors is not None and body.normalize is False:
        raise ValidationError(
            "normalize must be true (the default) with vectors: they are directions of sums of "
            "unit vectors, got false",
            param="normalize",
        )


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
        for place, row in enumerate(rows):
            check_chunks(len(row) if isinstance(row, list) else 0, place)
        check_request_chunks(sum(len(row) for row in rows if isinstance(row, list)))
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
