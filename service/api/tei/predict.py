"""``POST /predict``: the labels of texts, or of pairs of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response

from osa.service.api.errors.examples import NO_LABELS, missing
from osa.service.api.job import Job, RequestContext
from osa.service.api.openapi import inference, reads
from osa.service.api.parsing import json_type, name_of, parse_body
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.scoring.scores import descending, label_scores
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.score_schemas import Prediction, PredictRequest
from osa.service.api.vector_encoding import Answer, to_json, write_list
from osa.service.engines.base import EngineInfo
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.request import Embedded, EmbedOptions, Pair, PreparedRequest
from osa.service.inference.tasks import LABELLING

LABEL_BYTES = 30
"""What a label has in an answer beside its name, at least [bytes]."""


def predict_routes(pipeline: InferencePipeline) -> APIRouter:
    """Routes bound to a pipeline."""
    router = APIRouter(tags=["Scores"])

    def parse(context: RequestContext) -> Job:
        body = parse_body(context.raw, context.content_type, PredictRequest)
        about = context.choose(name_of(body.model), tasks=LABELLING).about
        inputs, batch = parse_texts(body.inputs)
        options = EmbedOptions(
            truncate=body.truncate,
            direction=body.truncation_direction or "right",
            parse_special=body.parse_special_tokens is True,
            prompted=False,
            tasks=LABELLING,
        )

        def render(_: PreparedRequest, found: Embedded) -> Answer:
            rows = predictions(found, about, body.raw_scores is True)
            if not batch:
                return to_json(next(rows))
            return Answer(write_list(rows, context.cancellation.check))

        one = sum(map(len, about.labels)) + len(about.labels) * LABEL_BYTES
        return context.job(
            inputs, options, render, expected=lambda prepared: one * len(prepared.ids)
        )

    @router.post(
        "/predict",
        summary="Classify texts, or pairs of texts",
        response_model=list[Prediction] | list[list[Prediction]],
        responses=inference(NATIVE, 422, samples={**missing("inputs"), **NO_LABELS}),
        openapi_extra=reads(PredictRequest),
    )
    async def predict(request: Request) -> Response:
        """Scores of all labels, the largest first; of a batch a list for each input."""
        return await pipeline.handle(request, parse)

    return router


def parse_texts(value: Any) -> tuple[list[str | Pair], bool]:
    """The texts and pairs of ``inputs``, and whether they are a batch.

    Raises:
        EmptyInputError: Nothing to classify.
        ValidationError: Anything but a text, a list of one or two texts, or a list of such lists.
    """
    if isinstance(value, str):
        return [_text_or_pair([value], "inputs")], False
    if not isinstance(value, list):
        raise ValidationError(
            f"inputs must be a text, a pair of texts or a batch of lists, got {json_type(value)}",
            param="inputs",
        )
    if not value:
        raise EmptyInputError("inputs is empty", param="inputs")
    if isinstance(value[0], str):
        return [_text_or_pair(value, "inputs")], False
    return [_text_or_pair(item, f"inputs[{index}]") for index, item in enumerate(value)], True


def _text_or_pair(value: Any, place: str) -> str | Pair:
    if not isinstance(value, list):
        raise ValidationError(
            f"{place} must be a list of one or two texts, got {json_type(value)}", param="inputs"
        )
    for item in value:
        if not isinstance(item, str):
            raise ValidationError(f"{place} must hold texts, got {json_type(item)}", param="inputs")
    if not any(value):
        raise EmptyInputError(f"{place} is empty", param="inputs")
    if len(value) > 2:
        raise ValidationError(
            f"{place} is a pair of texts, got {len(value)}: a batch is a list of lists",
            param="inputs",
        )
    return value[0] if len(value) == 1 else (value[0], value[1])


def predictions(found: Embedded, about: EngineInfo, raw: bool) -> Iterator[list[dict[str, Any]]]:
    """Labels of every input with their scores, the largest first; one input after another.

    Args:
        found: Logits [n, K].
        about: The model; has labels, and the rule of their scores.
        raw: Whether logits are wanted.
    """
    for logits in found.vectors:
        scores = label_scores(logits, about.score, raw)
        yield [
            {"score": scores[place], "label": about.labels[place]} for place in descending(logits)
        ]
