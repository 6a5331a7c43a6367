"""Routes of the tokenizer alone: ``POST /tokenize`` and ``POST /decode``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from osa.model.errors import InputError
from osa.model.tokenization import Token, id_out_of_range
from osa.service.api.errors.examples import TOKENIZING, missing
from osa.service.api.job import RequestContext, TextAnswer
from osa.service.api.openapi import INFERENCE_FAILURES, Responses, failures, reads
from osa.service.api.parsing import check_texts, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.stages.answers import AnswerRows
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.schemas import DecodeRequest, TokenInfo, TokenizeRequest
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.limits import check_count

AT_ONCE = 4096
"""Tokens that are written at once."""


def batched(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """At most ``AT_ONCE`` of them at a time."""
    return (tokens[first : first + AT_ONCE] for first in range(0, len(tokens), AT_ONCE))


def token_routes(pipeline: InferencePipeline, max_client_batch_size: int) -> APIRouter:
    """Routes that use the served models' tokenizers."""
    router = APIRouter(tags=["Tokens"])

    def errors(field: str) -> Responses:
        samples = {**TOKENIZING, **missing(field)}
        return failures(NATIVE, *INFERENCE_FAILURES, 422, samples=samples)

    def tokenize(context: RequestContext) -> TextAnswer:
        body = parse_body(context.raw, context.content_type, TokenizeRequest)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        check_count(len(texts), max_client_batch_size, "inputs")
        check_texts(texts, "inputs")
        tokenizer = context.choose(name_of(body.model)).tokenizer
        check, rows = context.cancellation.check, AnswerRows(len(texts), context.answers)
        parts: list[bytes] = []
        total = 0
        try:
            for index, tokens, last in tokenizer.tokens(
                texts,
                body.add_special_tokens is not False,
                body.parse_special_tokens is True,
                check,
            ):
                total += len(tokens)
                for some in batched(tokens):
                    check()
                    parts.append(orjson.dumps([token._asdict() for token in some])[1:-1])
                    rows.count(len(parts[-1]))
                if last:
                    rows.put(index, b"[" + b",".join(parts) + b"]", counted=True)
                    parts.clear()
        except InputError as error:
            raise ValidationError(str(error), param="inputs") from error
        return TextAnswer(rows.json(), total)

    def decode(context: RequestContext) -> TextAnswer:
        body = parse_body(context.raw, context.content_type, DecodeRequest)
        tokenizer = context.choose(name_of(body.model)).tokenizer
        if not body.ids:
            raise EmptyInputError("ids is empty", param="ids")
        first: Any = body.ids[0]
        rows: Any = body.ids if isinstance(first, list) else [body.ids]
        check_count(len(rows), max_client_batch_size, "ids")
        answer = AnswerRows(len(rows), context.answers)
        for index, row in enumerate(rows):
            context.cancellation.check()
            wrong = id_out_of_range(row, tokenizer.vocab_size)
            if wrong is not None:
                raise ValidationError(
                    f"ids must be 0 to {tokenizer.vocab_size - 1}, got {wrong}", param="ids"
                )
            (text,) = tokenizer.decode([row], body.skip_special_tokens is not False)
            answer.put(index, orjson.dumps(text))
        return TextAnswer(answer.json(), sum(map(len, rows)))

    @router.post(
        "/tokenize",
        summary="Split texts into tokens",
        response_model=list[list[TokenInfo]],
        responses=errors("inputs"),
        openapi_extra=reads(TokenizeRequest),
    )
    async def tokenize_route(request: Request) -> Response:
        """Tokens of texts with their characters; nothing is truncated."""
        return await pipeline.work_on_text(request, tokenize)

    @router.post(
        "/decode",
        summary="Turn token ids into text",
        response_model=list[str],
        responses=errors("ids"),
        openapi_extra=reads(DecodeRequest),
    )
    async def decode_route(request: Request) -> Response:
        """Texts of token ids."""
        return await pipeline.work_on_text(request, decode)

    return router
