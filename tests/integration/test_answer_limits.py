"""How large answers are, how large ones are had, and who is charged for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from osa.service.api import job
from osa.service.auth.api_keys import make_key
from osa.service.server.app import create_service
from tests.conftest import local_settings, make_tiny_model, run_service, wait_until
from tests.engines import GatedEngine
from tests.head_models import make_head_models
from tests.integration.test_overload import SMALL, held, sample
from tests.route_bodies import INFER, every_kind, place

Serve = Callable[..., httpx.Client]
LINES = {"accept": "application/x-ndjson"}
LIMIT = 65_536
TEXT = "the cat sat on a mat "
MANY = {"inputs": [TEXT * 4] * 40}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of every kind of model with the least limit of answers."""
    root = tmp_path_factory.mktemp("narrow")
    make_head_models(root)
    make_tiny_model(max_seq_len=512).save_pretrained(root / "embedding")
    settings = local_settings(server__answer_limit=LIMIT, **every_kind(root))
    with run_service(create_service(settings), settings) as client:
        yield client


def lines_of(client: httpx.Client, path: str, body: Any) -> list[dict[str, Any]]:
    response = client.post(path, json=body, headers=LINES)
    assert response.status_code == 200, response.text
    found = [json.loads(line) for line in response.text.splitlines()]
    return sorted(found, key=lambda line: int(line["index"]))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": ["the cat"] * 500}),
        ("/vertex", {"instances": [{"inputs": "the cat"}] * 500}),
        ("/v1/embeddings", {"input": ["the cat"] * 500}),
        (
            place(INFER[0]),
            {
                "inputs": [
                    {"name": "text", "datatype": "BYTES", "shape": [500], "data": ["a"] * 500}
                ]
            },
        ),
        ("/embed_all", MANY),
        ("/embed_chunks", {**MANY, "chunking": {"size": 8, "overlap": 7}}),
        (
            "/embed_chunks",
            {"inputs": TEXT * 50, "chunking": {"size": 100, "overlap": 99}, "return_text": True},
        ),
        ("/tokenize", {"inputs": TEXT * 400}),
        ("/tokenize", {"inputs": [TEXT] * 500}),
        ("/decode", {"ids": [[4] * 100] * 500}),
    ],
)
def test_an_answer_over_the_limit_is_refused_before_it_is_computed(
    narrow: httpx.Client, path: str, body: Any
) -> None:
    before = narrow.get("/metrics").text
    refused = narrow.post(path, json=body)
    assert refused.status_code == (400 if path.startswith("/v") and path != "/vertex" else 422)
    assert "server.answer_limit" in refused.text
    assert f"at most {LIMIT} are sent" in refused.text
    computed = [line for line in before.splitlines() if "osa_computed_tokens_total{" in line]
    assert all(line in narrow.get("/metrics").text for line in computed)


def test_what_is_known_only_when_it_is_computed_is_counted_as_it_comes(
    narrow: httpx.Client,
) -> None:
    refused = narrow.post(
        "/embed_sparse", json={"inputs": [[5, number % 9 + 2] * 40 for number in range(2000)]}
    )
    assert refused.status_code == 422
    assert "server.answer_limit" in refused.text


def test_smaller_forms_of_the_same_answer_fit(narrow: httpx.Client) -> None:
    body = {"inputs": [TEXT * 2] * 32}
    assert narrow.post("/embed_all", json=body).status_code == 422
    for less in ({"encoding_format": "base64"}, {"encoding_format": "bytes"},
                 {"embedding_type": "ubinary"}):  # fmt: skip
        assert narrow.post("/embed_all", json={**body, **less}).status_code == 200, less
    assert len(lines_of(narrow, "/embed_all", body)) == 32


def test_a_line_over_the_limit_is_refused_at_once(narrow: httpx.Client) -> None:
    body = {"inputs": ["the cat", TEXT * 70]}
    refused = narrow.post("/embed_all", json=body, headers=LINES)
    assert (refused.status_code, refused.json()["error_type"]) == (422, "Validation")


def test_token_vectors_have_the_same_bits_in_every_form(client: httpx.Client) -> None:
    body = {"inputs": ["A man is playing a guitar.", "Rain"], "dimensions": 64}
    expected = [np.array(rows, np.float32) for rows in client.post("/embed_all", json=body).json()]
    strings = client.post("/embed_all", json={**body, "encoding_format": "base64"}).json()
    for rows, text in zip(expected, strings, strict=True):
        found = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, 64)
        np.testing.assert_array_equal(found, rows)
    raw = client.post("/embed_all", json={**body, "encoding_format": "bytes"})
    assert raw.headers["x-embedding-shape"] == f"{sum(map(len, expected))},64"
    assert raw.headers["x-embedding-dtype"] == "float32"
    lengths = [int(part) for part in raw.headers["x-embedding-lengths"].split(",")]
    assert lengths == [len(rows) for rows in expected]
    found = np.frombuffer(raw.content, "<f4").reshape(-1, 64)
    np.testing.assert_array_equal(found, np.concatenate(expected))
    for line, rows in zip(lines_of(client, "/embed_all", body), expected, strict=True):
        np.testing.assert_array_equal(np.array(line["embeddings"], np.float32), rows)
    half = client.post("/embed_all", json={**body, "embedding_type": "float16"}).json()
    np.testing.assert_array_equal(np.array(half[1], np.float16), expected[1].astype(np.float16))
    packed = lines_of(
        client, "/embed_all", {**body, "embedding_type": "ubinary", "encoding_format": "base64"}
    )
    signs = np.frombuffer(base64.b64decode(packed[1]["embeddings"]), np.uint8).reshape(-1, 8)
    np.testing.assert_array_equal(signs, np.packbits(expected[1] > 0, axis=1))


def test_chunks_have_the_same_bits_in_every_form(client: httpx.Client) -> None:
    body = {"inputs": ["A man plays. It rains.", "Rain"], "chunking": {"size": 3},
            "return_text": True}  # fmt: skip
    expected = client.post("/embed_chunks", json=body).json()
    assert [line["chunks"] for line in lines_of(client, "/embed_chunks", body)] == expected
    strings = client.post("/embed_chunks", json={**body, "encoding_format": "base64"}).json()
    for row, texts in zip(expected, strings, strict=True):
        for chunk, text in zip(row, texts, strict=True):
            vector = np.frombuffer(base64.b64decode(text.pop("embedding")), "<f4")
            np.testing.assert_array_equal(vector, np.array(chunk.pop("embedding"), np.float32))
            assert text == chunk


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/embed_all", {"embedding_type": "int8"}, "calibrated for vectors of whole texts"),
        ("/embed_chunks", {"embedding_type": "uint8"}, "calibrated for vectors of whole texts"),
        ("/embed_chunks", {"encoding_format": "bytes"}, "encoding_format"),
        ("/embed_all", {"encoding_format": "bytes", "inputs": ["a"] * 257}, "at most 256 inputs"),
        ("/embed_all", {"embedding_type": "binary", "dimensions": 12}, "a multiple of 8, got 12"),
        ("/embed_chunks", {"embedding_type": "ubinary", "dimensions": 4}, "multiple of 8, got 4"),
    ],
)
def test_forms_that_cannot_be_are_refused(
    client: httpx.Client, path: str, fields: dict[str, Any], told: str
) -> None:
    refused = client.post(path, json={"inputs": "a", **fields})
    assert refused.status_code == 422
    assert told in refused.json()["error"]
    if path == "/embed_all":
        lines = {"inputs": "a", "encoding_format": "bytes"}
        assert client.post(path, json=lines, headers=LINES).status_code == 422


def test_a_stream_of_token_vectors_is_queued_in_portions(
    serve: Serve, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a portion of three inputs, no more than six wait or are unsent."""
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine)
    width = client.get("/info").json()["dimensions"][0]
    monkeypatch.setattr(job, "PORTION_BYTES", 3 * 3 * width * 4)
    inputs = [[4, 5 + number % 6, 4] for number in range(2)] + [
        [5, 4 + number % 7, 4 + number // 7] for number in range(40)
    ]
    with client.stream("POST", "/embed_all", json={"inputs": inputs}, headers=LINES) as response:
        assert engine.entered.wait(30)
        text = client.get("/metrics").text
        waiting = next(line for line in text.splitlines() if line.startswith("te_queue_size{"))
        assert float(waiting.rsplit(" ", 1)[1]) <= 6
        engine.gate.set()
        found = [json.loads(line) for line in response.iter_lines()]
    assert len(engine.computed) == len({tuple(row) for row in inputs})
    whole = client.post("/embed_all", json={"inputs": inputs}).json()
    found.sort(key=lambda line: line["index"])
    assert [line["embeddings"] for line in found] == whole


def test_a_portion_without_room_takes_nothing_from_the_one_before(
    serve: Serve, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second portion joins an input of the first, and is refused for its other input."""
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL, cache__max_bytes=10_000)
    width = client.get("/info").json()["dimensions"][0]
    monkeypatch.setattr(job, "PORTION_BYTES", 38 * width * 4)
    body = {"inputs": [[5] * 20, [5] * 20, [6] * 15]}
    patience = {**LINES, "x-request-timeout-ms": "20000"}
    with held(engine, client) as pool:
        filler = pool.submit(client.post, "/embed", json={"inputs": [[7] * 226]})
        wait_until(lambda: sample(client, "osa_queued_tokens") == 226)
        streamed = pool.submit(client.post, "/embed_all", json=body, headers=patience)
        wait_until(lambda: sample(client, "osa_queued_tokens") == 246)
        assert client.get("/livez").status_code == 200  # the stream has had its turn
    assert filler.result().status_code == 200
    found = [json.loads(line) for line in streamed.result().text.splitlines()]
    assert sorted(line["index"] for line in found if "embeddings" in line) == [0, 1, 2]
    assert sample(client, "osa_cache_misses_total") == 1 + 1 + 3


def test_the_tokenizer_is_charged_and_has_deadlines(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("team", 10, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=tmp_path / "keys.toml")
    client.headers["authorization"] = f"Bearer {secret}"
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/tokenize", {"inputs": "the cat sat"}),  # five tokens with the special ones
        ("/decode", {"ids": [[4, 5], [6]]}),
    )
    for path, body in bodies:
        assert client.post(path, json=body).status_code == 200
    refused = client.post("/tokenize", json={"inputs": "the cat sat"})
    assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    hasty = {"x-request-timeout-ms": "0.0001"}
    for path, body in bodies:
        assert client.post(path, json=body, headers=hasty).status_code == 504
