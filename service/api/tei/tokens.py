"""Routes of the tokenizer alone: ``POST /tokenize`` and ``POST /decode``."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from osa.model.errors import InputError
from osa.model.tokenization import id_out_of_range
from osa.service.api.errors.examples import WORKING, missing
from osa.service.api.job import RequestContext
from osa.service.api.openapi import POST_FAILURES, Responses, failures, reads
from osa.service.api.parsing import check_texts, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.schemas import DecodeRequest, TokenInfo, TokenizeRequest
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.limits import check_count


def token_routes(pipeline: InferencePipeline, max_client_batch_size: int) -> APIRouter:
    """Routes that use the served models' tokenizers."""
    router = APIRouter(tags=["Tokens"])

    def errors(field: str) -> Responses:
        return failures(NATIVE, *POST_FAILURES, 422, samples={**WORKING, **missing(field)})

    def tokenize(context: RequestContext) -> bytes:
        body = parse_body(context.raw, context.content_type, TokenizeRequest)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        check_count(len(texts), max_client_batch_size, "inputs")
        check_texts(texts, "inputs")
        try:
            tokenizer = context.choose(name_of(body.model)).tokenizer
            found = tokenizer.tokens(
                texts, body.add_special_tokens is not False, body.parse_special_tokens is True
            )
        except InputError as error:
            raise ValidationError(str(error), param="inputs") from error
        return orjson.dumps(
            [
                [
                    {"id": token.id, "text": token.text, "special": token.special,
                     "start": token.start, "stop": token.stop}
                    for token in row
                ]
                for row in found
            ]
        )  # fmt: skip

    def decode(context: RequestContext) -> bytes:
        body = parse_body(context.raw, context.content_type, DecodeRequest)
        tokenizer = context.choose(name_of(body.model)).tokenizer
        if not body.ids:
            raise EmptyInputError("ids is empty", param="ids")
        first: Any = body.ids[0]
        rows: Any = body.ids if isinstance(first, list) else [body.ids]
        check_count(len(rows), max_client_batch_size, "ids")
        for row in rows:
            wrong = id_out_of_range(row, tokenizer.vocab_size)
            if wrong is not None:
                raise ValidationError(
                    f"ids must be 0 to {tokenizer.vocab_size - 1}, got {wrong}", param="ids"
                )
        return orjson.dumps(tokenizer.decode(rows, body.skip_special_tokens is not False))

    @router.post(
        "/tokenize",
        summary="Split texts into tokens",
        response_model=list[list[TokenInfo]],
        responses=errors("inputs"),
        openapi_extra=reads(TokenizeRequest, deadline=False),
    )
    async def tokenize_route(request: Request) -> Response:
        """Tokens of texts with their characters; nothing is truncated."""
        return await pipeline.work_on_text(request, tokenize)

    @router.post(
        "/decode",
        summary="Turn token ids into text",
        response_model=list[str],
        responses=errors("ids"),
        openapi_extra=reads(DecodeRequest, deadline=False),
    )
    async def decode_route(request: Request) -> Response:
        """Texts of token ids."""
        return await pipeline.work_on_text(request, decode)

    return router
