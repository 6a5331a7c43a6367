"""Parsing bodies: kinds of input, and errors that do not repeat the input."""

from __future__ import annotations

import json

import pytest

from osa.service.api.parsing import parse_body, parse_inputs
from osa.service.api.tei.schemas import EmbedRequest
from osa.service.errors import (
    EmptyInputError,
    MalformedBodyError,
    MediaTypeError,
    ServiceError,
    ValidationError,
)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["a", [1, 2], "b"], ["a", [1, 2], "b"]),
        (" ", [" "]),
    ],
)
def test_kinds_of_input(value: object, inputs: list[object]) -> None:
    assert parse_inputs(value, "inputs") == inputs


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("", EmptyInputError, r"inputs\[0\] is empty"),
        ([], EmptyInputError, "inputs is empty"),
        ([[]], EmptyInputError, r"inputs\[0\] is empty"),
        (["a", ""], EmptyInputError, r"inputs\[1\] is empty"),
        (None, ValidationError, "must be a string, strings, ids or lists of ids, got null"),
        ({"text": "a"}, ValidationError, "got an object"),
        (3, ValidationError, "got an integer"),
        (
            ["a", 1],
            ValidationError,
            r"inputs\[1\] must be a string or a list of ids, got an integer",
        ),
        ([1, "1"], ValidationError, r"inputs\[1\] must be an integer id, got a string"),
        ([True], ValidationError, r"inputs\[0\] must be an integer id, got a boolean"),
        ([1.0], ValidationError, "got a number"),
        ([[1], "a", 2], ValidationError, r"inputs\[2\] must be a string or a list of ids, got an"),
        (["a", [1, "b"]], ValidationError, r"inputs\[1\]\[1\] must be an integer id, got a string"),
        (["a", []], EmptyInputError, r"inputs\[1\] is empty"),
        ([[1], [[2]]], ValidationError, r"inputs\[1\]\[0\] must be an integer id, got a list"),
        ([None], ValidationError, r"inputs\[0\] must be a string or a list of ids, got null"),
    ],
)
def test_other_inputs_are_refused(value: object, kind: type[ServiceError], message: str) -> None:
    with pytest.raises(kind, match=message):
        parse_inputs(value, "inputs")


def parse(raw: bytes, content_type: str | None = "application/json") -> EmbedRequest:
    return parse_body(raw, content_type, EmbedRequest)


def test_unknown_fields_nulls_and_any_case_are_accepted() -> None:
    body = parse(
        b'{"inputs": "a", "options": {"x": 1}, "truncate": null, "truncation_direction": "LEFT"}',
        "application/json; charset=utf-8",
    )
    assert (body.truncate, body.truncation_direction) == (None, "left")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"inputs": NaN}',
        b'{"inputs": 1e400}',
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "\xff"}',
        b'{"inputs": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"inputs": "a"} trailing',
    ],
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="not valid JSON"):
        parse(raw)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "must be a JSON object, got a list"),
        ({}, "inputs: Field required"),
        ({"inputs": "a", "normalize": "yes"}, "normalize: .*boolean"),
        ({"inputs": "a", "truncate": 1}, "truncate: .*boolean"),
        ({"inputs": "a", "truncation_direction": "up"}, "truncation_direction: .*'left' or"),
        ({"inputs": "a", "dimensions": "64"}, "dimensions: .*integer"),
        ({"inputs": "a", "prompt_name": 5}, "prompt_name: .*string"),
        ({"inputs": "a", "embedding_type": "int4"}, "embedding_type: .*'float32'"),
    ],
)
def test_wrong_fields_are_named(body: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse(json.dumps(body).encode())


def test_refusals_never_echo_what_came() -> None:
    secret = "s3cret" * 1000
    with pytest.raises(ValidationError) as caught:
        parse(json.dumps({"inputs": "a", "normalize": secret, "dimensions": secret}).encode())
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(MediaTypeError, match="must be application/json"):
        parse(b"{}", content_type)
