"""``/embed_chunks`` with ``vectors``: groups of chunks, in every form that the route has."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from osa.model.documents.clusters import cluster
from tests.conftest import WORDS

LINES = {"accept": "application/x-ndjson"}
SIZE = {"chunking": {"size": 6}}


def text_of(words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS[4:], words))


@pytest.fixture
def tiny(serve: Callable[..., httpx.Client], tiny_checkpoint: Path) -> httpx.Client:
    return serve(model__path=tiny_checkpoint, model__dtype="float32")


def ask(client: httpx.Client, inputs: Any, **fields: Any) -> Any:
    response = client.post("/embed_chunks", json={"inputs": inputs, **SIZE, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_vectors_are_those_of_groups_of_the_chunks(tiny: httpx.Client) -> None:
    text = text_of(75)
    ((chunks,), (found,)) = ask(tiny, text), ask(tiny, text, vectors=4)
    rows = np.array([chunk["embedding"] for chunk in chunks], np.float32)
    groups = cluster(rows, 4)
    assert len(found) == 4
    for group, entry in enumerate(found):
        members = [chunk for chunk, own in zip(chunks, groups, strict=True) if own == group]
        total = rows[groups == group].sum(0)
        np.testing.assert_allclose(entry["embedding"], total / np.linalg.norm(total), atol=1e-6)
        words = sum(len(text[one["start"] : one["end"]].split()) for one in members)
        assert entry["weight"] == pytest.approx(words / 75, abs=1e-5)
        inside = [one for each in entry["ranges"] for one in range(each["start"], each["end"])]
        assert {one["start"] for one in members} <= set(inside)
    spans = sorted(tuple(each.values()) for entry in found for each in entry["ranges"])
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert (spans[0][0], spans[-1][1]) == (0, len(text))


def test_a_document_has_the_same_vectors_alone_and_in_any_batch(client: httpx.Client) -> None:
    texts = [text_of(words, words) for words in (90, 8, 170, 40)]
    every = ask(client, texts, vectors=3)
    assert [len(one) for one in every] == [3, 2, 3, 3]
    for text, found in zip(texts, every, strict=True):
        assert ask(client, text, vectors=3) == [found]


def test_every_form_has_the_same_vectors(tiny: httpx.Client) -> None:
    texts = [text_of(50), "the cat", "  "]
    expected = ask(tiny, texts, vectors=3, return_text=True)
    assert [len(one) for one in expected] == [3, 1, 0]
    for text, entries in zip(texts, expected, strict=True):
        for each in (one for entry in entries for one in entry["ranges"]):
            assert each["text"] == text[each["start"] : each["end"]]
    body = {"inputs": texts, **SIZE, "vectors": 3, "return_text": True}
    streamed = tiny.post("/embed_chunks", json=body, headers=LINES).text.splitlines()
    lines = sorted((json.loads(line) for line in streamed), key=lambda line: int(line["index"]))
    assert [line["vectors"] for line in lines] == expected
    strings = ask(tiny, texts, vectors=3, return_text=True, encoding_format="base64")
    halves = ask(tiny, texts, vectors=3, embedding_type="float16")
    packed = ask(tiny, texts, vectors=3, embedding_type="ubinary")
    for row, string_row, half_row, packed_row in zip(
        expected, strings, halves, packed, strict=True
    ):
        for entry, text, half, signs in zip(row, string_row, half_row, packed_row, strict=True):
            vector = np.array(entry.pop("embedding"), np.float32)
            found = np.frombuffer(base64.b64decode(text.pop("embedding")), "<f4")
            assert np.array_equal(found, vector)
            assert text == entry
            assert np.array_equal(np.array(half["embedding"], np.float16), vector.astype("<f2"))
            assert signs["embedding"] == np.packbits(vector > 0).tolist()


def test_groups_are_made_in_the_dimensions_that_are_asked_for(tiny: httpx.Client) -> None:
    text = text_of(70)
    (chunks,) = ask(tiny, text, dimensions=8)
    (found,) = ask(tiny, text, dimensions=8, vectors=5)
    rows = np.array([chunk["embedding"] for chunk in chunks], np.float32)
    groups = cluster(rows, 5)
    for group, entry in enumerate(found):
        total = rows[groups == group].sum(0)
        np.testing.assert_allclose(entry["embedding"], total / np.linalg.norm(total), atol=1e-6)


@pytest.mark.parametrize("chunking", [
    {"strategy": "tokens", "size": 8, "overlap": 5},
    {"strategy": "sentences", "size": 8},
    {"strategy": "spans", "spans": [[40, 60], [0, 20], [10, 50]]},
])  # fmt: skip
def test_every_way_of_cutting_is_grouped(tiny: httpx.Client, chunking: dict[str, Any]) -> None:
    text = text_of(60)
    body = {"inputs": text, "chunking": chunking}
    (chunks,) = tiny.post("/embed_chunks", json=body).json()
    (found,) = tiny.post("/embed_chunks", json={**body, "vectors": 2}).json()
    assert len(found) == 2
    assert sum(entry["weight"] for entry in found) == pytest.approx(1.0, abs=1e-5)
    covered = {one for entry in found for each in entry["ranges"]
               for one in range(each["start"], each["end"])}  # fmt: skip
    assert all(set(range(one["start"], one["end"])) <= covered for one in chunks)


def test_a_long_document_is_streamed_and_grouped(
    serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    settings = {"model__path": tiny_checkpoint, "model__dtype": "float32"}
    whole = serve(**settings)
    streamed = serve(**settings, batching__max_batch_tokens=64, model__max_input_length=256)
    text = text_of(200)
    for one, other in zip(ask(whole, text, vectors=4)[0], ask(streamed, text, vectors=4)[0],
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one.pop("embedding"), other.pop("embedding"), atol=1e-5)
        assert one == other


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"vectors": 0}, "vectors"),
        ({"vectors": 65}, "vectors"),
        ({"vectors": 2.5}, "vectors"),
        ({"vectors": True}, "vectors"),
        ({"vectors": 2, "normalize": False}, "normalize must be true (the default) with vectors"),
        ({"vectors": 2, "embedding_type": "int8"}, "calibrated for vectors of whole texts"),
    ],
)
def test_what_cannot_be_is_refused(client: httpx.Client, fields: dict[str, Any], told: str) -> None:
    refused = client.post("/embed_chunks", json={"inputs": "the cat", **fields})
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"
    assert told in refused.json()["error"]


def test_null_is_a_vector_a_chunk(tiny: httpx.Client) -> None:
    assert ask(tiny, text_of(40), vectors=None) == ask(tiny, text_of(40))


def test_answers_are_as_small_as_their_vectors(
    serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    """Chunks that would not fit do as few vectors; texts that will not are refused beforehand."""
    narrow = serve(model__path=tiny_checkpoint, server__answer_limit=65_536)
    body = {"inputs": [text_of(200) + f" {'x' * 90}" * 50] * 32, "chunking": {"size": 8}}
    assert "server.answer_limit" in narrow.post("/embed_chunks", json=body).text
    assert narrow.post("/embed_chunks", json={**body, "vectors": 2}).status_code == 200
    body["inputs"] = [text_of(200, seed) + f" {'x' * 90}" * 50 for seed in range(32)]
    before = narrow.get("/metrics").text
    refused = narrow.post("/embed_chunks", json={**body, "vectors": 2, "return_text": True})
    assert (refused.status_code, "server.answer_limit" in refused.text) == (422, True)
    computed = [line for line in before.splitlines() if "osa_computed_tokens_total{" in line]
    assert all(line in narrow.get("/metrics").text for line in computed)


def test_the_description_allows_what_is_answered(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["components"]["schemas"]
    schema = {**described["EmbedChunksRequest"], "components": {"schemas": described}}
    allowed = jsonschema.Draft202012Validator(schema).is_valid
    assert allowed({"inputs": "a", "vectors": 8})
    assert allowed({"inputs": "a", "vectors": None, "normalize": False})
    assert allowed({"inputs": "a", "vectors": 64, "normalize": None})
    assert allowed({"inputs": "a", "normalize": False})
    assert not allowed({"inputs": "a", "vectors": 8, "normalize": False})
    assert not allowed({"inputs": "a", "vectors": 65})
    entries = ask(client, text_of(30), vectors=2, return_text=True)[0]
    entry = {**described["DocumentVector"], "components": {"schemas": described}}
    for one in entries:
        jsonschema.Draft202012Validator(entry).validate(one)
