"""A feature model on a real socket: every route, every refusal, beside and instead of text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.engines import FaultyEngine, GatedEngine
from tests.feature_model import INPUTS, LONGEST, SEQUENCES, WIDTH, embed, tensor

INFER = "/v2/models/osa-default/infer"
Serve = Callable[..., httpx.Client]


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_several_sequences_and_each_alone_have_the_models_vectors(
    feature_client: httpx.Client, feature_vectors: np.ndarray, path: str
) -> None:
    together = embed(feature_client, INPUTS, path)
    np.testing.assert_allclose(together, feature_vectors, atol=1e-6)
    for place, rows in enumerate(INPUTS):
        np.testing.assert_array_equal(
            embed(feature_client, rows, path), together[place : place + 1]
        )


def test_integers_are_numbers(feature_client: httpx.Client) -> None:
    np.testing.assert_array_equal(
        embed(feature_client, [[1, 2, 3]]), embed(feature_client, [[[1.0, 2.0, 3.0]]])
    )


def test_answers_have_every_form(feature_client: httpx.Client, feature_vectors: np.ndarray) -> None:
    raw = feature_client.post("/embed", json={"inputs": INPUTS, "encoding_format": "bytes"})
    np.testing.assert_allclose(
        np.frombuffer(raw.content, "<f4").reshape(feature_vectors.shape), feature_vectors, atol=1e-6
    )
    assert raw.headers["x-compute-tokens"] == str(sum(map(len, INPUTS)))
    shorter = embed(feature_client, INPUTS, dimensions=8)
    np.testing.assert_allclose(np.linalg.norm(shorter, axis=1), 1, atol=1e-6)
    signs = embed(feature_client, INPUTS, embedding_type="ubinary")
    np.testing.assert_array_equal(signs, np.packbits(feature_vectors > 0, axis=1))
    lines = feature_client.post(
        "/embed", json={"inputs": INPUTS}, headers={"accept": "application/x-ndjson"}
    ).text.splitlines()
    for line in map(json.loads, lines):
        np.testing.assert_allclose(line["embedding"], feature_vectors[line["index"]], atol=1e-6)
    assert len(lines) == len(INPUTS)
    instances = {"instances": [{"inputs": INPUTS[:2]}, {"inputs": INPUTS[2]}]}
    split = feature_client.post("/vertex", json=instances).json()["predictions"]
    assert [len(part) for part in split] == [2, 1]
    np.testing.assert_allclose(np.concatenate(split), feature_vectors[:3], atol=1e-6)


def test_every_row_has_a_vector(feature_client: httpx.Client, feature_vectors: np.ndarray) -> None:
    found = feature_client.post("/embed_all", json={"inputs": INPUTS}).json()
    assert [len(rows) for rows in found] == [len(rows) for rows in INPUTS]
    means = np.stack([np.mean(rows, axis=0) for rows in found])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, feature_vectors, atol=1e-5)


def test_long_sequences_are_cut_or_refused(feature_client: httpx.Client) -> None:
    rows = [[float(n), 1.0, -n / 9] for n in range(LONGEST + 3)]
    answer = feature_client.post("/embed", json={"inputs": rows})
    assert answer.headers["x-truncated-tokens"] == "3"
    np.testing.assert_array_equal(
        answer.json(), feature_client.post("/embed", json={"inputs": rows[:12]}).json()
    )
    np.testing.assert_array_equal(
        embed(feature_client, rows, truncation_direction="Left"), embed(feature_client, rows[3:])
    )
    refused = feature_client.post("/embed", json={"inputs": [INPUTS[0], rows], "truncate": False})
    assert refused.status_code == 422
    assert "input 1 has 15 rows, at most 12 are allowed" in refused.json()["error"]


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
@pytest.mark.parametrize(
    ("inputs", "status", "message"),
    [
        ("[[1, 2]]", 422, "inputs[0] must be a row of 3 numbers, got 2"),
        ("[[1, 2, 3], [1, 2]]", 422, "inputs[1] must be a row of 3 numbers, got 2"),
        ("[[[1, 2, 3]], [[1, 2, 3, 4]]]", 422, "inputs[1][0] must be a row of 3 numbers, got 4"),
        ("[[1, 2, NaN]]", 422, "inputs[0][2] must be a finite float32 number"),
        ("[[[1, 2, 3]], [[1, -Infinity, 3]]]", 422, "inputs[1][0][1] must be a finite float32"),
        ("[[1, 2, 1e400]]", 422, "inputs[0][2] must be a finite float32 number"),
        ("[[1, 2, 1e39]]", 422, "inputs[0][2] must be a finite float32 number"),
        ('"a cat"', 422, "inputs must be one sequence of features, rows of 3 numbers"),
        ('["a cat"]', 422, "got a list that begins with a string"),
        ("[1, 2, 3]", 422, "got a list that begins with an integer"),
        ("[]", 400, "inputs is empty"),
        ("[[]]", 400, "inputs[0] is empty"),
        ("[[1, 2, NaN]", 400, "not valid JSON"),
        ('[[1, 2, 3]], "other": NaN', 400, "not valid JSON"),
    ],
)
def test_what_the_model_does_not_take(
    feature_client: httpx.Client, path: str, inputs: str, status: int, message: str
) -> None:
    answer = feature_client.post(path, content=f'{{"inputs": {inputs}}}'.encode())
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/embeddings", {"input": INPUTS}, 400),
        ("/v1/embeddings", {"input": "a cat"}, 400),
        ("/embeddings", {"input": [1, 2]}, 400),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, 422),
        ("/tokenize", {"inputs": "a cat"}, 422),
        ("/decode", {"ids": [1]}, 422),
        ("/embed_chunks", {"inputs": "a cat"}, 422),
    ],
)
def test_routes_of_text_say_where_features_go(
    feature_client: httpx.Client, path: str, body: dict[str, Any], status: int
) -> None:
    answer = feature_client.post(path, json=body)
    assert answer.status_code == status
    assert "takes feature vectors, rows of 3 numbers, not text or ids" in answer.text
    assert "/embed" in answer.text


def test_prompts_are_for_text(
    feature_client: httpx.Client, feature_checkpoint: Path, serve: Serve
) -> None:
    prompts = {"model__prompts": {"query": "q: "}, "model__default_prompt_name": "query"}
    client = serve(model__path=feature_checkpoint, model__dtype="float32", **prompts)
    np.testing.assert_array_equal(embed(client, INPUTS), embed(feature_client, INPUTS))
    refused = client.post("/embed", json={"inputs": INPUTS, "prompt_name": "query"})
    assert refused.status_code == 422
    assert "prompts go before texts, not features" in refused.text


def test_it_describes_itself(feature_client: httpx.Client, client: httpx.Client) -> None:
    info = feature_client.get("/info").json()
    assert (info["input_kind"], info["feature_size"], info["batch_invariant"]) == (
        "features", WIDTH, True,
    )  # fmt: skip
    assert feature_client.get("/v2/models/osa-default").json()["inputs"] == [
        {"name": "features", "datatype": "FP32", "shape": [-1, WIDTH]},
        {"name": "lengths", "datatype": "INT64", "shape": [-1]},
    ]
    text = client.get("/info").json()
    assert (text["input_kind"], text["feature_size"]) == ("text", None)


def test_a_token_model_takes_no_features(client: httpx.Client) -> None:
    for inputs, status, message in (
        ("[[0.5, 1]]", 422, "inputs[0][0] must be an integer id, got a number"),
        ("[[[1]]]", 422, "inputs[0][0] must be an integer id, got a list"),
        ("[[NaN]]", 400, "not valid JSON"),
    ):
        answer = client.post("/embed", content=f'{{"inputs": {inputs}}}'.encode())
        assert (answer.status_code, message in answer.json()["error"]) == (status, True)
    answer = client.post(INFER, json={"inputs": [tensor(SEQUENCES[0])]})
    assert answer.status_code == 400
    assert "allowed: text, text_pair, input_ids, attention_mask" in answer.json()["error"]


def test_equal_features_are_computed_once(feature_checkpoint: Path, serve: Serve) -> None:
    engine = GatedEngine(feature_checkpoint)
    client = serve(engine, cache__max_bytes=100_000)
    engine.gate.set()
    first = embed(client, [INPUTS[1], INPUTS[1], INPUTS[2]])
    np.testing.assert_array_equal(embed(client, [INPUTS[2], INPUTS[1]]), first[[2, 0]])
    assert [len(rows) for rows in engine.computed] == [5, 12]


def test_only_the_sequence_at_fault_fails_and_the_engine_stays(
    feature_checkpoint: Path, serve: Serve
) -> None:
    """More batches in a row fail than an engine may lose: the probe tells that it works."""
    client = serve(FaultyEngine(feature_checkpoint, "raise"))
    for _ in range(5):
        answer = client.post("/embed", json={"inputs": [[9.0, 1.0, 1.0]]})
        assert (answer.status_code, "engine failed" in answer.text) == (500, True)
    lines = client.post(
        "/embed",
        json={"inputs": [INPUTS[0], [[9.0, 1.0, 1.0]], INPUTS[1]]},
        headers={"accept": "application/x-ndjson"},
    ).text.splitlines()
    found = {line["index"]: "error" in line for line in map(json.loads, lines)}
    assert found == {0: False, 1: True, 2: False}
    restarts = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith("osa_engine_restarts_total")
    ]
    assert restarts
    assert all(line.endswith(" 0.0") for line in restarts)


def test_both_kinds_of_model_in_one_server(
    feature_checkpoint: Path, feature_client: httpx.Client, serve: Serve, client: httpx.Client
) -> None:
    both = serve(model__others={"patches": feature_checkpoint}, model__dtype="float32")
    np.testing.assert_array_equal(
        embed(both, INPUTS, model="patches"), embed(feature_client, INPUTS)
    )
    assert both.post("/embed", json={"inputs": "a cat"}).status_code == 200
    assert both.post("/embed", json={"inputs": INPUTS}).status_code == 422
    refused = both.post("/embed", content=b'{"model": "patches", "inputs": [[1, 2, NaN]]}')
    assert (refused.status_code, "inputs[0][2]" in refused.text) == (422, True)
    answer = both.post("/v1/embeddings", json={"model": "patches", "input": "a cat"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
