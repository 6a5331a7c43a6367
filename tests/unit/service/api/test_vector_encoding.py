"""Sizes that are expected of answers, and answers that end where nobody waits for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from osa.model.text.slices import Check
from osa.service.api.kserve.jobs import OutputArray, render_tensors
from osa.service.api.kserve.schemas import InferRequest
from osa.service.api.openai.routes import render_embeddings
from osa.service.api.tei.embed import render_predictions
from osa.service.api.vector_encoding import (
    Answer,
    EncodingFormat,
    convert,
    render_vectors,
    vector_bytes,
    write_rows,
)
from osa.service.errors import ClientGoneError
from osa.service.inference.request import EmbedOptions, PreparedRequest

VECTORS = np.random.default_rng(0).standard_normal((400, 384)).astype(np.float32)


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("kind", ["float32", "float16", "ubinary", "binary"])
@pytest.mark.parametrize("encoding", get_args(EncodingFormat))
def test_no_more_is_expected_than_an_answer_has(
    spread: float, kind: Any, encoding: EncodingFormat
) -> None:
    vectors = VECTORS * spread
    content = render_vectors(vectors, kind, encoding).content
    assert len(vectors) * vector_bytes(vectors.shape[1], kind, encoding) <= len(content)


def test_numbers_are_written_as_in_one_piece() -> None:
    for elements in (VECTORS, VECTORS.reshape(-1), VECTORS[:0], convert(VECTORS, "float16")):
        written = np.array(json.loads(write_rows(elements)), np.float32)
        np.testing.assert_array_equal(written.reshape(elements.shape), elements)


PREPARED = PreparedRequest([[1]] * len(VECTORS), EmbedOptions(), 0, [], 0.0, 0.0)
ASKED = InferRequest.model_construct(inputs=[])
Render = Callable[[Check], Answer]
ANSWERS: dict[str, Render] = {
    "/embed": lambda check: render_vectors(VECTORS, check=check),
    "/embed, base64": lambda check: render_vectors(VECTORS, "float32", "base64", None, check),
    "/vertex": lambda check: render_predictions([VECTORS[:200], VECTORS[200:]], check),
    "/v1": lambda check: render_embeddings(PREPARED, VECTORS, "float", "m", check),
    "/v2": lambda check: render_tensors(
        [OutputArray("out", "FP32", VECTORS, False)], ASKED, "m", check
    ),
}


@pytest.mark.parametrize("route", list(ANSWERS))
def test_writing_ends_where_nobody_waits(route: str) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 2:
            raise ClientGoneError("the client went away")

    with pytest.raises(ClientGoneError):
        ANSWERS[route](check)


def test_answers_hold_every_vector() -> None:
    def vectors(route: str) -> Any:
        return json.loads(ANSWERS[route](lambda: None).content)

    v1 = vectors("/v1")
    assert (v1["object"], v1["model"], len(v1["data"])) == ("list", "m", 400)
    assert v1["usage"] == {"prompt_tokens": 400, "total_tokens": 400}
    assert [entry["index"] for entry in v1["data"]] == list(range(400))
    (tensor,) = vectors("/v2")["outputs"]
    assert tensor["shape"] == [400, 384]
    for found in (
        vectors("/embed"),
        [row for instance in vectors("/vertex")["predictions"] for row in instance],
        [entry["embedding"] for entry in v1["data"]],
        np.reshape(tensor["data"], (400, 384)),
    ):
        np.testing.assert_array_equal(np.array(found, np.float32), VECTORS)
