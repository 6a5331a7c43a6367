"""The Python API refuses what the server refuses, in its words, and names the place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from osa.model import EmbeddingModel
from osa.model.common.inputs import json_type
from osa.model.errors import InputError
from osa.service.api.parsing import parse_inputs
from osa.service.errors import ServiceError
from tests.conftest import make_tiny_model

NAN = float("nan")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a cat", None], "texts[1] must be a string, got null"),
        (["a cat", "dogs", NAN], "texts[2] must be a string, got a number"),
        ([3], "texts[0] must be a string, got an integer"),
        ([True], "texts[0] must be a string, got a boolean"),
        ([b"a cat"], "texts[0] must be a string, got bytes"),
        ([["a cat"]], "texts[0] must be a string, got a list"),
        ([{"text": "a"}], "texts[0] must be a string, got an object"),
        (np.array([["a", "b"]]), "texts[0] must be a string, got ndarray"),
        (np.array(["a", NAN], dtype=object), "texts[1] must be a string, got a number"),
        (["a", ""], "texts[1] is empty"),
        (None, "texts must be a string or a list of strings, got null"),
        (7, "texts must be a string or a list of strings, got an integer"),
        (b"a cat", "texts must be a string or a list of strings, got bytes"),
        ({"a": 1}, "texts must be a string or a list of strings, got an object"),
    ],
)
def test_what_is_no_text_is_refused_by_place(
    tiny_model: EmbeddingModel, texts: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        tiny_model.encode(texts)


@pytest.mark.parametrize("item", [None, 3.5, {"a": 1}, True])
def test_the_server_says_the_same_of_an_item(tiny_model: EmbeddingModel, item: Any) -> None:
    with pytest.raises(ServiceError) as refused:
        parse_inputs(["a", item], "inputs")
    with pytest.raises(InputError) as own:
        tiny_model.encode(["a", item])
    assert str(own.value).split("got")[1] == str(refused.value).split("got")[1]


def test_arrays_and_tuples_of_texts_are_texts(tiny_model: EmbeddingModel) -> None:
    expected = tiny_model.encode(["the cat", "a dog"])
    for texts in (np.array(["the cat", "a dog"]), ("the cat", "a dog"), iter(["the cat", "a dog"])):
        assert tiny_model.encode(texts).equal(expected)
    assert tiny_model.encode([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[2, True, 3]], "sequences[0][1] must be an integer id, got a boolean"),
        ([[2, 3], [2, 4.0]], "sequences[1][1] must be an integer id, got a number"),
        ([[2, "4"]], "sequences[0][1] must be an integer id, got a string"),
        (["the cat"], "sequences[0] must be a list of ids, got a string"),
        ([2, 3], "sequences[0] must be a list of ids, got an integer"),
        ([np.array([True, False])], "sequences[0] must be a list of ids, got ndarray"),
        ([[2, 12]], "sequence 0 holds id 12, allowed are 0 to 11"),
        ([[-1]], "sequence 0 holds id -1, allowed are 0 to 11"),
        ([[]], "sequence 0 has 0 tokens, allowed are 1 to 256"),
    ],
)
def test_what_is_no_id_is_refused_by_place(
    tiny_model: EmbeddingModel, ids: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        tiny_model.embed_ids(ids)


def test_ids_of_numpy_are_ids(tiny_model: EmbeddingModel) -> None:
    expected = tiny_model.embed_ids([[2, 4, 3]]).embeddings
    for ids in (np.array([2, 4, 3]), [np.int64(2), 4, np.int32(3)], (2, 4, 3)):
        assert tiny_model.embed_ids([ids]).embeddings.equal(expected)  # type: ignore[list-item]


ROWS = np.ones((2, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([ROWS, [[0, 1, NAN]]], "sequence 1 must hold finite float32 numbers: row 0, column 2"),
        ([ROWS, np.full((1, 3), 1e39)], "sequence 1 must hold finite float32 numbers: row 0"),
        ([ROWS[:1], None], "sequences[1] must be rows of numbers of one length, got null"),
        ([[[1, 2, 3], [1]]], "sequences[0] must be rows of numbers of one length, got a list"),
        ([[["a", "b", "c"]]], "sequences[0] must be rows of numbers of one length, got a list"),
        ([ROWS > 0], "must be rows of numbers of one length, got shape [2, 3] of bool"),
        ([ROWS, ROWS, ROWS[:1, :2]], "sequence 2 has shape [1, 2]"),
    ],
)
def test_what_are_no_features_is_refused_by_place(features: Any, message: str) -> None:
    model = make_tiny_model(vocab_size=None, feature_size=3, max_seq_len=6)
    with pytest.raises(InputError, match=re.escape(message)):
        model.encode_features(features, batch_tokens=1)


def test_names_of_types_are_those_of_json() -> None:
    values: list[Any] = [{}, [], "", True, 1, 0.5, None, b""]
    found = [json_type(value) for value in values]
    assert found == [
        "an object", "a list", "a string", "a boolean", "an integer", "a number", "null", "bytes",
    ]  # fmt: skip
