"""Any body on any POST route: an answer or a refusal in JSON, never a 5xx, HTML, or an echo.

Routes below ``/admin`` look at no body before they have seen a key.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from osa.service.api.headers import JSON_LENGTH

ROUTES = (
    "/", "/invocations", "/embed", "/embed_all", "/embed_chunks", "/similarity", "/tokenize",
    "/decode", "/vertex", "/rerank", "/predict", "/embed_sparse", "/v1/rerank", "/v2/rerank",
    "/v1/embeddings", "/embeddings", "/v2/models/osa-default/infer",
    "/v2/models/osa-default/versions/1/infer",
)  # fmt: skip
FIELDS = (
    "inputs", "input", "ids", "instances", "source_sentence", "sentences", "name", "shape",
    "datatype", "data", "parameters", "binary_data_size", "outputs", "dimensions", "chunking",
    "spans", "size", "overlap", "strategy", "normalize", "truncate", "truncation_direction",
    "encoding_format", "embedding_type", "prompt_name", "id", "model", "query", "texts",
    "documents", "top_n", "return_documents", "return_text", "raw_scores", "method",
)  # fmt: skip
WORDS = ("text", "input_ids", "attention_mask", "embedding", "BYTES", "INT64", "FP32", "left",
         "spans", "sentences", "base64", "bytes", "binary", "maxsim", "a cat", "")  # fmt: skip
ALLOWED = {200, 400, 404, 413, 415, 422, 424}
"""424: a model of another kind than the route needs."""
MARK = "Zq7"
"""Begins every text of a body that is looked for in the answer."""
LONG = 200
EXAMPLES = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

numbers = st.one_of(
    st.integers(-3, 400),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30]),
    st.floats(allow_nan=True, allow_infinity=True),
)
leaves = st.one_of(
    st.none(), st.booleans(), numbers, st.sampled_from(WORDS), st.text(max_size=8),
    st.just(MARK + "x" * 3 * LONG),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=4)), inner, max_size=5),
    ),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
complete = st.fixed_dictionaries(
    dict.fromkeys(("inputs", "input", "ids", "instances"), values),
    optional=dict.fromkeys(FIELDS[8:], leaves),
)
"""With the field that each route needs; routes ignore those that they do not know."""
pairs = st.fixed_dictionaries(
    {"query": values, "texts": values, "method": st.just("maxsim")},
    optional={name: leaves for name in FIELDS[8:] if name not in ("query", "texts", "method")},
)
KINDS = (("text", "BYTES"), ("input_ids", "INT64"), ("attention_mask", "INT64"), ("x", "FP32"),
         ("features", "FP32"), ("lengths", "INT64"))  # fmt: skip
shapes = st.lists(st.one_of(st.integers(0, 2), st.integers(0, 2), numbers), max_size=3)
elements = st.one_of(st.integers(0, 3), st.sampled_from(WORDS), values)
packed = st.one_of(
    st.binary(max_size=64),
    st.lists(st.binary(max_size=4), max_size=3).map(
        lambda items: b"".join(len(item).to_bytes(4, "little") + item for item in items)
    ),
    st.lists(st.integers(-1, 3), max_size=4).map(
        lambda items: b"".join(item.to_bytes(8, "little", signed=True) for item in items)
    ),
)
tensors = st.tuples(
    st.sampled_from(KINDS), shapes, st.one_of(st.lists(elements, max_size=4), packed)
)
lengths = st.one_of(st.none(), st.integers(-2, 200).map(str), st.text("0123456789-+e", max_size=9))


def check(client: httpx.Client, path: str, content: bytes, headers: dict[str, str]) -> None:
    response = client.post(path, content=content, headers=headers)
    assert response.status_code in ALLOWED, (response.status_code, response.text[:500])
    assert response.headers["content-type"] in ("application/json", "application/octet-stream")
    assert b"<html" not in response.content.lower()
    if response.status_code != 200:
        body = response.json()
        error = body.get("error", body)  # /v1/rerank and /v2/rerank have Cohere's form
        message = error["message"] if isinstance(error, dict) else error
        assert len(message) < 700, message
        assert MARK + "x" * LONG not in message


@pytest.mark.parametrize("path", ROUTES)
@EXAMPLES
@given(value=st.one_of(complete, pairs, objects, values))
def test_any_json(client: httpx.Client, path: str, value: Any) -> None:
    check(client, path, json.dumps(value).encode(), {"content-type": "application/json"})


@pytest.mark.parametrize("path", ROUTES)
@EXAMPLES
@given(body=st.binary(max_size=300), length=lengths, kind=st.sampled_from(["", "json", "bytes"]))
@example(body=b"[" * 100_000, length=None, kind="json")
@example(body=b'{"inputs": ' * 10_000, length=None, kind="json")
@example(body=b'{"inputs": "' + MARK.encode() + b"x" * 1_000_000, length=None, kind="json")
def test_any_bytes(
    client: httpx.Client, path: str, body: bytes, length: str | None, kind: str
) -> None:
    types = {"json": "application/json", "bytes": "application/octet-stream"}
    headers = {"content-type": types[kind]} if kind else {}
    if length is not None:
        headers[JSON_LENGTH] = length
    check(client, path, body, headers)


@settings(EXAMPLES, max_examples=600)
@given(inputs=st.lists(tensors, min_size=1, max_size=2), off=st.sampled_from([0, 0, 0, 0, -1, 1]))
def test_any_tensors(client: httpx.Client, inputs: list[Any], off: int) -> None:
    written, tail = [], b""
    for (name, datatype), shape, data in inputs:
        tensor = {"name": name, "datatype": datatype, "shape": shape}
        if isinstance(data, bytes):
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            tensor["data"] = data
        written.append(tensor)
    text = json.dumps({"inputs": written}).encode()
    headers = {JSON_LENGTH: str(len(text) + off)}
    check(client, "/v2/models/osa-default/infer", text + tail, headers)


def test_every_post_route_is_tried(client: httpx.Client) -> None:
    described = {
        path.format(model="osa-default", version="1")
        for path, operations in client.get("/openapi.json").json()["paths"].items()
        if "post" in operations and not path.startswith("/admin/")
    }
    assert described == set(ROUTES)
