"""Lines of inputs that failed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from osa.service.api.stages.answers import AnswerLimit
from osa.service.api.streaming import _Lines
from osa.service.batching.item import ItemResult
from osa.service.errors import AnswerTooLargeError, UnavailableError
from osa.service.inference.request import EmbedOptions, PreparedRequest


def lines_of(results: list[ItemResult]) -> Any:
    prepared = PreparedRequest([[1]] * len(results), EmbedOptions(), 0, [], 0.0, 0.0)
    job = SimpleNamespace(prepared=prepared, render_item=lambda *_: {"embedding": "x" * 100})
    lines: Any = _Lines.__new__(_Lines)
    lines._running = SimpleNamespace(
        job=job, submission=SimpleNamespace(pending=SimpleNamespace(results=results))
    )
    lines._pipeline, lines._sent = SimpleNamespace(answers=AnswerLimit(50)), {}
    return lines


def test_an_error_that_many_inputs_share_does_not_grow() -> None:
    error = UnavailableError("the server is draining")
    lines = lines_of([ItemResult(error=error)] * 3)
    found = [json.loads(line) for line in lines._render(range(3)).splitlines()]
    assert [(line["index"], line["error_type"]) for line in found] == [
        (0, "Unhealthy"), (1, "Unhealthy"), (2, "Unhealthy")
    ]  # fmt: skip
    assert error.__traceback__ is None


def test_a_line_that_is_too_long_is_not_kept_with_its_error() -> None:
    lines = lines_of([ItemResult(np.ones(2), 1.0)])
    assert json.loads(lines._line(0))["error_type"] == "Validation"
    kept = lines._sent[0].error
    assert isinstance(kept, AnswerTooLargeError)
    assert (kept.__traceback__, kept.__context__) == (None, None)
