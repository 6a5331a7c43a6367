"""Feature sequences in JSON: one, a list of rows of numbers, or several; integers are numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from osa.service.api.job import RequestContext
from osa.service.api.parsing import json_type, name_of, parse_inputs
from osa.service.engines.base import EngineInfo
from osa.service.errors import EmptyInputError, MalformedBodyError, ValidationError
from osa.service.inference.request import Inputs

NUMBERS = frozenset({int, float})


def parse_model_inputs(value: Any, field: str, about: EngineInfo) -> Inputs:
    """The inputs of a field: texts or ids, or features where the model takes them.

    Raises:
        EmptyInputError: Nothing to embed.
        ValidationError: Another kind of input, or one that is not valid; says where.
    """
    if about.feature_size is None:
        return parse_inputs(value, field)
    return parse_features(value, field, about.feature_size)


def parse_features(value: Any, field: str, feature_size: int) -> list[np.ndarray]:
    """The sequences of a field that holds one sequence of features, or several; float32 [n, F].

    Args:
        value: The field's value.
        field: Its name.
        feature_size: F of the model.

    Raises:
        EmptyInputError: No sequence, or one without rows.
        ValidationError: Something else, rows of another width, or a number beyond float32; says
            where.
    """
    if not isinstance(value, list):
        raise _other_kind(field, field, feature_size, json_type(value))
    if not value:
        raise EmptyInputError(f"{field} is empty", param=field)
    first = value[0]
    if not isinstance(first, list):
        raise _other_kind(field, field, feature_size, f"a list that begins with {json_type(first)}")
    if not first:
        raise EmptyInputError(f"{field}[0] is empty", param=field)
    if not isinstance(first[0], list):
        return [_sequence(value, field, field, feature_size)]
    return [
        _sequence(item, f"{field}[{index}]", field, feature_size)
        for index, item in enumerate(value)
    ]


def _sequence(rows: Any, place: str, field: str, width: int) -> np.ndarray:
    """One sequence, float32 [n, F]."""
    if not isinstance(rows, list):
        raise _other_kind(place, field, width, json_type(rows))
    if not rows:
        raise EmptyInputError(f"{place} is empty", param=field)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            found = f"{len(row)}" if isinstance(row, list) else json_type(row)
            raise ValidationError(
                f"{place}[{index}] must be a row of {width} numbers, got {found}", param=field
            )
    flat = list(chain.from_iterable(rows))
    if not NUMBERS.issuperset(map(type, flat)):
        at = next(number for number, item in enumerate(flat) if type(item) not in NUMBERS)
        raise ValidationError(
            f"{place}[{at // width}][{at % width}] must be a number, got {json_type(flat[at])}",
            param=field,
        )
    with np.errstate(over="ignore"):
        numbers = np.array(flat, dtype=np.float64).astype(np.float32)
    finite = np.isfinite(numbers)
    if not finite.all():
        at = int(np.argmin(finite))
        raise _not_finite(f"{place}[{at // width}][{at % width}]", field)
    return numbers.reshape(-1, width)


def _other_kind(place: str, field: str, width: int, found: str) -> ValidationError:
    return ValidationError(
        f"{place} must be one sequence of features, rows of {width} numbers, or a list of such "
        f"sequences, got {found}",
        param=field,
    )


def _not_finite(place: str, field: str) -> ValidationError:
    return ValidationError(f"{place} must be a finite float32 number", param=field)


@contextmanager
def naming_non_finite(context: RequestContext, field: str) -> Iterator[None]:
    """Within the block a body that is JSON but for NaN or Infinity is refused by their place.

    JSON has no such numbers, and a token model's request stays malformed; to a feature model they
    are what measurements and some writers of JSON bring. Read only after the body was refused.

    Args:
        context: The request.
        field: Which field holds features.

    Raises:
        ValidationError: The first such number of the field, where the model takes features.
    """
    try:
        yield
    except MalformedBodyError:
        try:
            values = json.loads(context.raw)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            model = context.choose(name_of(values.get("model")))
            takes_features = model.about.feature_size is not None
            place = _find_non_finite(values.get(field), field) if takes_features else None
            if place is not None:
                raise _not_finite(place, field) from None
        raise


def _find_non_finite(value: Any, place: str, depth: int = 3) -> str | None:
    """Where the first NaN or infinity of nested lists is."""
    if isinstance(value, float) and not math.isfinite(value):
        return place
    if depth and isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            found = _find_non_finite(item, f"{place}[{index}]", depth - 1)
            if found is not None:
                return found
    return None
