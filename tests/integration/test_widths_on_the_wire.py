"""Widths of vectors, and what clients of others read of a model and of an answer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import make_tiny_model


def embed(client: httpx.Client, **body: Any) -> np.ndarray:
    answer = client.post("/embed", json=body)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), dtype=np.float32)


@pytest.mark.parametrize("width", [1, 7, 96, 192, 383, 384])
def test_any_width_is_answered_and_normalised_again(client: httpx.Client, width: int) -> None:
    texts = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "dogs"]
    full = embed(client, inputs=texts)
    cut = embed(client, inputs=texts, dimensions=width)
    assert cut.shape == (3, width)
    expected = full[:, :width] / np.linalg.norm(full[:, :width], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)
    alone = np.concatenate([embed(client, inputs=text, dimensions=width) for text in texts])
    np.testing.assert_array_equal(cut, alone)
    body = {"input": texts, "dimensions": width, "encoding_format": "base64"}
    rows = client.post("/v1/embeddings", json=body).json()["data"]
    for row, vector in zip(rows, cut, strict=True):
        found = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
        np.testing.assert_array_equal(found, vector)
    raw = embed(client, inputs=texts, normalize=False)
    plain = embed(client, inputs=texts, normalize=False, dimensions=width)
    np.testing.assert_allclose(plain, raw[:, :width], rtol=1e-5, atol=1e-6)
    (tokens,) = client.post("/embed_all", json={"inputs": "a", "dimensions": width}).json()
    assert {len(token) for token in tokens} == {width}
    ((chunk,),) = client.post("/embed_chunks", json={"inputs": "a", "dimensions": width}).json()
    assert np.linalg.norm(chunk["embedding"]) == pytest.approx(1.0, abs=1e-5)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [texts[0]]}
    asked = {"inputs": [tensor], "parameters": {"dimensions": width}}
    (output,) = client.post("/v2/models/osa-default/infer", json=asked).json()["outputs"]
    assert output["shape"] == [1, width]
    np.testing.assert_array_equal(np.array(output["data"], np.float32), cut[0])


@pytest.mark.parametrize("width", [0, -1, 385, 10**12])
def test_other_widths_are_refused(client: httpx.Client, width: int) -> None:
    answer = client.post("/embed", json={"inputs": "a", "dimensions": width})
    assert answer.status_code == 422
    assert answer.json()["error"] == f"dimensions must be 1 to 384, got {width}"


def test_a_model_of_one_width_has_that_alone(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    make_tiny_model(matryoshka_dims=(16,)).save_pretrained(tmp_path / "one")
    client = serve(model__path=tmp_path / "one")
    assert client.get("/info").json()["any_dimension"] is False
    assert embed(client, inputs="cat", dimensions=16).shape == (1, 16)
    answer = client.post("/embed", json={"inputs": "cat", "dimensions": 8})
    assert "must be 16, the only width that this model was trained for" in answer.text


@pytest.mark.parametrize("kind", ["binary", "ubinary"])
def test_bits_fill_whole_bytes(client: httpx.Client, kind: str) -> None:
    asked = {"inputs": "a cat", "embedding_type": kind}
    for width in (8, 96, 384):
        (row,) = client.post("/embed", json={**asked, "dimensions": width}).json()
        assert len(row) == width // 8
    refused = client.post("/embed", json={**asked, "dimensions": 100})
    assert refused.status_code == 422
    assert "multiple of 8, got 100" in refused.text


def test_int8_has_the_calibrated_widths(client: httpx.Client) -> None:
    asked = {"inputs": "a cat", "embedding_type": "int8", "dimensions": 192}
    refused = client.post("/embed", json=asked)
    assert refused.status_code == 422
    assert "calibrated for dimensions 384, 256, 128, 64, got 192" in refused.text


@pytest.mark.parametrize(
    ("revision", "told"),
    [("94ac30f" + 33 * "0", ("94ac30f" + 33 * "0", "sha-94ac30f")), ("unknown", (None, None))],
)
def test_info_names_the_commit_of_the_image(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, revision: str, told: tuple[str, str]
) -> None:
    monkeypatch.setenv("IMAGE_REVISION", revision)
    info = client.get("/info").json()
    assert (info["sha"], info["docker_label"]) == told


def test_info_and_models_say_which_widths_there_are(client: httpx.Client) -> None:
    info = client.get("/info").json()
    assert (info["dimensions"], info["any_dimension"]) == ([384, 256, 128, 64], True)
    assert info["served_model_name"] == info["model_id"] == "osa-default"
    assert (info["sha"], info["docker_label"]) == (None, None)
    (entry,) = client.get("/v1/models").json()["data"]
    assert (entry["dimensions"], entry["any_dimension"]) == (info["dimensions"], True)
    assert client.get("/v1/models/osa-default").json() == entry
    facts = client.get("/v2/models/osa-default").json()["parameters"]
    assert facts["any_dimension"] is True


def test_one_model_is_found_by_a_name_with_slashes(serve: Callable[..., httpx.Client]) -> None:
    client = serve(model__name="org/model-a")
    answer = client.get("/v1/models/org/model-a")
    assert (answer.status_code, answer.json()["id"]) == (200, "org/model-a")
    missing = client.get("/v1/models/org")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert missing.json()["error"]["type"] == "invalid_request_error"


def test_the_description_is_where_teis_clients_look_for_it(client: httpx.Client) -> None:
    found = client.get("/api-doc/openapi.json")
    assert (found.status_code, found.json()) == (200, client.get("/openapi.json").json())


def test_answers_say_where_and_how_long_they_were_computed(client: httpx.Client) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    for path, body in {
        "/embed": {"inputs": "a"},
        "/v1/embeddings": {"input": "a"},
        "/v2/models/osa-default/infer": {"inputs": [tensor]},
    }.items():
        headers = client.post(path, json=body).headers
        assert headers["x-compute-type"] == "cpu+optimized"
        assert headers["x-compute-time"] == headers["x-total-time"]
