"""Routes of the tokenizer alone: ``POST /tokenize`` and ``POST /decode``."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from osa.model.errors import InputError
from osa.model.tokenization import TextTokenizer
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.routes.inference import InferencePipeline
from osa.service.routes.native import ERRORS, request_body
from osa.service.schemas.body import check_texts, parse_body
from osa.service.schemas.native import DecodeRequest, TokenInfo, TokenizeRequest


def token_routes(
    pipeline: InferencePipeline, tokenizer: TextTokenizer, max_client_batch_size: int
) -> APIRouter:
    """Routes bound to a tokenizer."""
    router = APIRouter(tags=["Tokens"])
    errors: dict[int | str, dict[str, Any]] = {
        status: ERRORS[status] for status in (400, 413, 415, 422, 429, 503)
    }

    def check_count(count: int, field: str) -> None:
        if count > max_client_batch_size:
            raise ValidationError(
                f"{count} inputs in one request, at most {max_client_batch_size} are allowed",
                param=field,
            )

    def tokenize(raw: bytes, content_type: str | None) -> bytes:
        body = parse_body(raw, content_type, TokenizeRequest)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        check_count(len(texts), "inputs")
        check_texts(texts, "inputs")
        try:
            found = tokenizer.tokens(texts, body.add_special_tokens is not False)
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

    def decode(raw: bytes, content_type: str | None) -> bytes:
        body = parse_body(raw, content_type, DecodeRequest)
        if not body.ids:
            raise EmptyInputError("ids is empty", param="ids")
        first: Any = body.ids[0]
        rows: Any = body.ids if isinstance(first, list) else [body.ids]
        check_count(len(rows), "ids")
        for row in rows:
            if row and not (min(row) >= 0 and max(row) < tokenizer.vocab_size):
                raise ValidationError(
                    f"ids must be 0 to {tokenizer.vocab_size - 1}, got {min(row)} to {max(row)}",
                    param="ids",
                )
        return orjson.dumps(tokenizer.decode(rows, body.skip_special_tokens is not False))

    @router.post(
        "/tokenize",
        response_model=list[list[TokenInfo]],
        responses=errors,
        openapi_extra=request_body(TokenizeRequest.model_json_schema()),
    )
    async def tokenize_route(request: Request) -> Response:
        """Tokens of texts with their characters; nothing is cut."""
        return await pipeline.work_on_text(request, tokenize)

    @router.post(
        "/decode",
        response_model=list[str],
        responses=errors,
        openapi_extra=request_body(DecodeRequest.model_json_schema()),
    )
    async def decode_route(request: Request) -> Response:
        """Texts of token ids."""
        return await pipeline.work_on_text(request, decode)

    return router
