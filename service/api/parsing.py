"""Strict parsing of JSON bodies; errors say what came and what is allowed, never the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError
from pydantic_core import ErrorDetails

from osa.model.common.inputs import id_problem
from osa.model.common.inputs import json_type as json_type
from osa.service.api.json_bodies.text import load_json
from osa.service.errors import EmptyInputError, MediaTypeError, ValidationError

Body = TypeVar("Body", bound=BaseModel)
MAX_PROBLEMS = 5
"""Faults of a body that are described."""
MOST_PROBLEMS = 100
"""Faults that are looked at: lists end at the first, so that more are fields with any name."""
MOST_NAME, MOST_DEPTH, MOST_SHOWN = 64, 8, 500
"""Characters of a field's name, parts of a place and characters of a description that are shown."""


def parse_body(raw: bytes, content_type: str | None, model: type[Body]) -> Body:
    """Read a JSON object into ``model``.

    Raises:
        MediaTypeError: Another content type.
        MalformedBodyError: Not JSON; also NaN, Infinity, 1e400, lone surrogates, deep nesting.
        ValidationError: A field of a wrong type or value.
    """
    media_type = (content_type or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MediaTypeError(f"content type must be application/json, got {media_type[:64]!r}")
    values = load_json(raw)
    if not isinstance(values, dict):
        raise ValidationError(f"the body must be a JSON object, got {json_type(values)}")
    return validate(values, model)


def validate(values: dict[str, Any], model: type[Body]) -> Body:
    """The fields of a request as ``model``.

    Raises:
        ValidationError: A field of a wrong type or value.
    """
    try:
        return model.model_validate(values)
    except PydanticError as error:
        if error.error_count() > MOST_PROBLEMS:  # each becomes an object of its own
            raise ValidationError(f"the body has {error.error_count()} faults") from None
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(map(_told, problems[:MAX_PROBLEMS]))
        first = problems[0]["loc"]
        param = str(first[0])[:MOST_NAME] if first else None
        raise ValidationError(text, param=param) from None


def _told(problem: ErrorDetails) -> str:
    """Where a fault is, and what; names that the client chose are cut."""
    place = ".".join(str(part)[:MOST_NAME] for part in problem["loc"][:MOST_DEPTH])
    message = problem["msg"][:MOST_SHOWN]
    return f"{place}: {message}" if place else message


def parse_inputs(value: Any, field: str) -> Sequence[str | list[int]]:
    """The list of inputs of a field that holds a text, an id sequence, or a list of such.

    Raises:
        EmptyInputError: Nothing to embed: no input, an empty text or an empty sequence.
        ValidationError: Anything else, or ids that are not plain integers.
    """
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValidationError(
            f"{field} must be a string, strings, ids or lists of ids, got {json_type(value)}",
            param=field,
        )
    if not value:
        raise EmptyInputError(f"{field} is empty", param=field)
    if isinstance(value[0], int | float):
        return [_ids(value, field, field)]
    for index, item in enumerate(value):
        if isinstance(item, list):
            _ids(item, f"{field}[{index}]", field)
        elif not isinstance(item, str):
            raise ValidationError(
                f"{field}[{index}] must be a string or a list of ids, got {json_type(item)}",
                param=field,
            )
        if not item:
            raise EmptyInputError(f"{field}[{index}] is empty", param=field)
    return value


def name_of(model: Any) -> str | None:
    """The model name in a field that may hold any JSON value; None if it is not a string."""
    return model if isinstance(model, str) else None


def check_texts(texts: Sequence[str], field: str) -> None:
    """Refuse an empty list, and empty texts.

    Raises:
        EmptyInputError: Naming the place.
    """
    if not texts:
        raise EmptyInputError(f"{field} is empty", param=field)
    for index, text in enumerate(texts):
        if not text:
            raise EmptyInputError(f"{field}[{index}] is empty", param=field)


def _ids(value: Any, place: str, field: str) -> list[int]:
    if not isinstance(value, list):
        raise ValidationError(f"{place} must be a list of ids, got {json_type(value)}", param=field)
    if not value:
        raise EmptyInputError(f"{place} is empty", param=field)
    for index, item in enumerate(value):
        if type(item) is not int:
            raise ValidationError(str(id_problem(item, f"{place}[{index}]")), param=field)
    return value
