"""``/v1/embeddings`` as OpenAI's clients use it."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest


def test_the_answer_is_openais_list_object(client: httpx.Client) -> None:
    body = {"input": ["a cat", "dogs"], "model": "any", "user": "u"}
    answer = client.post("/v1/embeddings", json=body).json()
    assert set(answer) == {"object", "data", "model", "usage"}
    assert answer["object"] == "list"
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert all(entry["object"] == "embedding" for entry in answer["data"])
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert answer["model"] == "osa-default"


@pytest.mark.parametrize("name", ["m", "text-embedding-3-small", "osa-default", "", None])
def test_one_model_answers_to_every_name_and_says_its_own(
    client: httpx.Client, name: str | None
) -> None:
    """Decision 22; several models accept only their own names."""
    answer = client.post("/v1/embeddings", json={"input": "a cat", "model": name})
    assert (answer.status_code, answer.json()["model"]) == (200, "osa-default")


def test_base64_is_little_endian_float32(client: httpx.Client) -> None:
    plain = client.post("/v1/embeddings", json={"input": "a cat"}).json()
    coded = client.post(
        "/v1/embeddings", json={"input": "a cat", "encoding_format": "base64"}
    ).json()
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(vector, plain["data"][0]["embedding"], atol=1e-7)


def test_ids_and_dimensions(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": [[101, 102]], "dimensions": 64}).json()
    vector = np.array(answer["data"][0]["embedding"])
    assert vector.shape == (64,)
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-6)
    assert answer["usage"]["prompt_tokens"] == 2


def test_full_dimensions_are_always_allowed(client: httpx.Client) -> None:
    """Mteb sends the full width with every request."""
    response = client.post("/v1/embeddings", json={"input": "a", "dimensions": 384})
    assert response.status_code == 200


def test_openapi_declares_bodies_answers_and_errors(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/embed", "/v1/embeddings"):
        operation = paths[path]["post"]
        assert operation["requestBody"]["required"] is True
        assert {"200", "400", "413", "415", "429", "500", "503"} <= set(operation["responses"])
