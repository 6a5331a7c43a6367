"""Routes of other servers' clients: aliases, Vertex, similarity, tokens, encodings."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

TEXTS = ["A man is playing a guitar.", "Someone plays an acoustic guitar.", "Stocks fell."]


def post(client: httpx.Client, path: str, body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def vectors(client: httpx.Client) -> np.ndarray:
    return np.array(post(client, "/embed", {"inputs": TEXTS}))


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_aliases_answer_as_embed(client: httpx.Client, path: str, vectors: np.ndarray) -> None:
    body = {"inputs": TEXTS, "parameters": {}, "options": {"wait_for_model": True}, "model": "x"}
    np.testing.assert_array_equal(post(client, path, body), vectors)


def test_vertex_wraps_instances_and_predictions(client: httpx.Client, vectors: np.ndarray) -> None:
    body = {"instances": [{"inputs": TEXTS[:2]}, {"inputs": TEXTS[2]}], "parameters": None}
    predictions = post(client, "/vertex", body)["predictions"]
    assert [len(part) for part in predictions] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(predictions), vectors)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"instances": []}, 400),
        ({"instances": [{"inputs": []}]}, 400),
        ({"instances": [{"inputs": "a"}, {"inputs": "b", "normalize": False}]}, 422),
        ({"instances": [{"inputs": "a"}, {"inputs": [2001, "b"]}]}, 422),
        ({"instances": [{"inputs": "a", "embedding_type": "ubinary"}]}, 422),
    ],
)
def test_vertex_refuses_what_it_cannot_answer(
    client: httpx.Client, body: dict[str, Any], status: int
) -> None:
    assert client.post("/vertex", json=body).status_code == status


def test_similarity_is_the_cosine(client: httpx.Client, vectors: np.ndarray) -> None:
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]},
            "parameters": {"truncate": True, "truncation_direction": "Left"}}  # fmt: skip
    cosines = post(client, "/similarity", body)
    np.testing.assert_allclose(cosines, vectors[1:] @ vectors[0], atol=1e-6)
    assert cosines[0] > cosines[1] + 0.2


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        (None, 422),
        ({}, 422),
        ({"source_sentence": "", "sentences": ["a"]}, 400),
        ({"source_sentence": "a", "sentences": []}, 400),
        ({"source_sentence": "a", "sentences": ["b", ""]}, 400),
        ({"source_sentence": "a", "sentences": [1]}, 422),
    ],
)
def test_similarity_refuses_what_is_no_comparison(
    client: httpx.Client, inputs: Any, status: int
) -> None:
    response = client.post("/similarity", json={"inputs": inputs})
    kind = "Empty" if status == 400 else "Validation"
    assert (response.status_code, response.json()["error_type"]) == (status, kind)


def test_tokens_tell_their_characters(client: httpx.Client) -> None:
    text = "Guitars, naïve ones"
    (row,) = post(client, "/tokenize", {"inputs": text})
    assert (row[0]["text"], row[0]["special"], row[0]["start"]) == ("[CLS]", True, None)
    assert (row[-1]["text"], row[-1]["stop"]) == ("[SEP]", None)
    assert all(text[token["start"] : token["stop"]] == token["text"] for token in row[1:-1])
    assert "".join(token["text"] for token in row[1:-1]) == text.replace(" ", "")
    (bare,) = post(client, "/tokenize", {"inputs": [text], "add_special_tokens": False})
    assert bare == row[1:-1]


def test_ids_of_tokenize_embed_as_the_text(client: httpx.Client, vectors: np.ndarray) -> None:
    rows = post(client, "/tokenize", {"inputs": TEXTS})
    ids = [[token["id"] for token in row] for row in rows]
    np.testing.assert_array_equal(post(client, "/embed", {"inputs": ids}), vectors)
    assert post(client, "/decode", {"ids": ids}) == [text.lower() for text in TEXTS]
    assert post(client, "/decode", {"ids": ids[0]}) == [TEXTS[0].lower()]
    (whole,) = post(client, "/decode", {"ids": ids[2], "skip_special_tokens": False})
    assert whole.startswith("[CLS]")
    assert whole.endswith("[SEP]")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/tokenize", {"inputs": []}, 400, "Empty"),
        ("/tokenize", {"inputs": [""]}, 400, "Empty"),
        ("/tokenize", {"inputs": 1}, 422, "Validation"),
        ("/tokenize", {"inputs": ["a"] * 2049}, 422, "Validation"),
        ("/decode", {"ids": []}, 400, "Empty"),
        ("/decode", {"ids": [-1]}, 422, "Validation"),
        ("/decode", {"ids": [30522]}, 422, "Validation"),
        ("/decode", {"ids": ["1"]}, 422, "Validation"),
        ("/decode", {"ids": [10**30]}, 422, "Validation"),
    ],
)
def test_token_routes_refuse_bad_input(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, kind: str
) -> None:
    response = client.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind)


def test_a_lone_surrogate_is_refused(client: httpx.Client) -> None:
    response = client.post("/tokenize", content=rb'{"inputs": "\ud800"}')
    assert response.status_code in (400, 422)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("float32", "<f4"), ("float16", "<f2"), ("ubinary", "u1"), ("binary", "i1")],
)
def test_the_encodings_of_a_type_hold_the_same_elements(
    client: httpx.Client, vectors: np.ndarray, kind: str, dtype: str
) -> None:
    body = {"inputs": TEXTS, "embedding_type": kind}
    numbers = np.array(post(client, "/embed", body)).astype(dtype)
    strings = post(client, "/embed", {**body, "encoding_format": "base64"})
    decoded = np.stack([np.frombuffer(base64.b64decode(text), dtype) for text in strings])
    np.testing.assert_array_equal(decoded, numbers)
    raw = client.post("/embed", json={**body, "encoding_format": "bytes"})
    assert raw.headers["content-type"] == "application/octet-stream"
    shape = tuple(map(int, raw.headers["x-embedding-shape"].split(",")))
    assert raw.headers["x-embedding-dtype"] == np.dtype(dtype).name
    np.testing.assert_array_equal(np.frombuffer(raw.content, dtype).reshape(shape), numbers)
    if kind.startswith("float"):
        np.testing.assert_allclose(numbers, vectors, atol=1e-6 if kind == "float32" else 1e-3)
    else:
        signs = np.unpackbits((numbers.astype(int) + (128 if kind == "binary" else 0)).astype("u1"))
        np.testing.assert_array_equal(signs.reshape(vectors.shape), vectors > 0)


def test_bits_are_packed_after_the_dimensions_are_cut(
    client: httpx.Client, vectors: np.ndarray
) -> None:
    body = {"inputs": TEXTS, "embedding_type": "ubinary", "dimensions": 64}
    packed = np.array(post(client, "/embed", body), dtype=np.uint8)
    assert packed.shape == (3, 8)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1), vectors[:, :64] > 0)


@pytest.mark.parametrize("field", [{"embedding_type": "int4"}, {"encoding_format": "hex"}])
def test_unknown_encodings_name_those_allowed(client: httpx.Client, field: dict[str, str]) -> None:
    response = client.post("/embed", json={"inputs": "a", **field})
    assert response.status_code == 422
    assert "Input should be 'float" in response.json()["error"]


def test_openai_models_and_its_short_path(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == ["osa-default"]
    body = {"input": TEXTS[0]}
    short, full = (post(client, path, body)["data"] for path in ("/embeddings", "/v1/embeddings"))
    assert short == full
    assert client.post("/embeddings", json={"input": []}).json()["error"]["code"] == "empty_input"


def test_ping_is_a_probe(client: httpx.Client) -> None:
    assert client.get("/ping").json() == {"status": "ok"}


def test_every_route_is_in_the_schema(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/", "/invocations", "/vertex", "/similarity", "/tokenize", "/decode", "/embed"):
        responses = paths[path]["post"]["responses"]
        assert {"200", "400", "413", "415", "422"} <= set(responses)
        assert paths[path]["post"]["requestBody"]["required"]


def test_one_byte_a_dimension_keeps_cosines(client: httpx.Client, vectors: np.ndarray) -> None:
    exact = vectors @ vectors.T
    for width, kinds in ((384, ("int8", "uint8")), (128, ("int8",))):
        for kind in kinds:
            body = {"inputs": TEXTS, "embedding_type": kind, "dimensions": width}
            listed = np.array(post(client, "/embed", body))
            raw = client.post("/embed", json={**body, "encoding_format": "bytes"})
            dtype = np.dtype(raw.headers["x-embedding-dtype"])
            assert dtype == kind
            np.testing.assert_array_equal(
                np.frombuffer(raw.content, dtype).reshape(3, width), listed
            )
            centred = listed.astype(float) - (128 if kind == "uint8" else 0)
            centred /= np.linalg.norm(centred, axis=1, keepdims=True)
            if width == 384:
                np.testing.assert_allclose(centred @ centred.T, exact, atol=0.01)


def test_bytes_of_vectors_of_any_length_are_refused(client: httpx.Client) -> None:
    body = {"inputs": TEXTS, "embedding_type": "int8", "normalize": False}
    response = client.post("/embed", json=body)
    assert (response.status_code, response.json()["error_type"]) == (422, "Validation")
