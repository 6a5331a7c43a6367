"""Equal inputs computed once, the cache of vectors, streamed lines, prompts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from osa.service.api.tei import embed
from tests.conftest import wait_until
from tests.engines import FaultyEngine, GatedEngine
from tests.integration.test_overload import SMALL, held, sample

Serve = Callable[..., httpx.Client]
LINES = {"accept": "application/x-ndjson"}


def test_equal_inputs_in_flight_are_computed_once(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client) as pool:
        body = {"inputs": [[5, 6], [5, 6], [7]]}
        same = [pool.submit(client.post, "/embed", json=body) for _ in range(5)]
        wait_until(lambda: sample(client, "osa_shared_inputs_total") == 5 * 3 - 2)
        assert sample(client, "osa_queued_tokens") == 3
    answers = [future.result() for future in same]
    assert all(answer.status_code == 200 for answer in answers)
    assert len({answer.content for answer in answers}) == 1
    assert engine.computed.count([5, 6]) == 1


def test_one_that_leaves_takes_nothing_from_those_who_stay(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client) as pool:
        staying = pool.submit(client.post, "/embed", json={"inputs": [[5] * 9]})
        wait_until(lambda: sample(client, "osa_queued_tokens") == 9)
        late = client.post(
            "/embed", json={"inputs": [[5] * 9]}, headers={"x-request-timeout-ms": "50"}
        )
        assert late.status_code == 504
        assert sample(client, "osa_queued_tokens") == 9
    assert staying.result().status_code == 200


def test_the_cache_gives_the_same_bits_and_keeps_its_bound(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    client = serve(model__path=tiny_checkpoint, model__max_input_length=200, cache__max_bytes=4000)
    first = client.post("/embed", json={"inputs": "the cat"})
    again = client.post("/embed", json={"inputs": "the cat"})
    raw = client.post("/embed", json={"inputs": "the cat", "normalize": False})
    assert first.content == again.content
    assert np.linalg.norm(raw.json()) != pytest.approx(1.0)
    assert sample(client, "osa_cache_hits_total") == 2
    assert sample(client, "osa_cache_misses_total") == 1
    for token in range(4, 12):
        client.post("/embed", json={"inputs": [[token] * 100]})
    assert 0 < sample(client, "osa_cache_bytes") <= 4000
    client.post("/embed", json={"inputs": "the cat"})
    assert sample(client, "osa_cache_hits_total") == 2, "the oldest had to leave"


def test_lines_come_as_batches_are_done(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(
        FaultyEngine(tiny_checkpoint, "raise"), **{**SMALL, "batching__max_queue_tokens": 512}
    )
    inputs = [[4] * n for n in (200, 3, 150)] + [[9]]
    plain = client.post("/embed", json={"inputs": inputs[:3]}).json()
    response = client.post("/embed", json={"inputs": inputs}, headers=LINES)
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert response.headers["x-compute-tokens"] == "354"
    lines = {line["index"]: line for line in map(json.loads, response.text.splitlines())}
    assert sorted(lines) == [0, 1, 2, 3]
    assert [lines[index]["embedding"] for index in range(3)] == plain
    assert lines[3].keys() == {"index", "error", "error_type"}
    assert sample(client, "te_embed_success") == 3, "only the plain request was answered whole"
    assert sample(client, 'te_request_failure{err="backend"') == 1
    refused = client.post("/embed", json={"inputs": []}, headers=LINES)
    assert refused.status_code == 400


def test_a_stream_is_accounted_like_a_plain_answer_and_many_lines_leave_the_event_loop(
    serve: Serve, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    original = embed.render_item

    def render_item(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return original(*arguments)

    monkeypatch.setattr(embed, "render_item", render_item)
    client = serve(model__path=tiny_checkpoint)
    stages = ("", "_tokenization", "_queue", "_inference")
    for requests, headers in ((1, {}), (2, LINES)):
        texts = [f"{'the ' * n}cat" for n in range(1, 9)]
        answer = client.post("/embed", json={"inputs": texts}, headers=headers)
        assert answer.status_code == 200
        counts = {sample(client, f"te_request{stage}_duration_count") for stage in stages}
        assert counts == {requests}
    assert sample(client, 'te_request_success{method="batch"') == 2
    assert sample(client, "te_embed_success") == 16
    assert len(threads) == 8
    assert all(name.startswith("osa-render") for name in threads)


def test_a_stream_ends_in_errors_at_its_deadline_and_frees_its_work(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client):
        late = client.post(
            "/embed",
            json={"inputs": [[5] * 20, [6] * 30]},
            headers={**LINES, "x-request-timeout-ms": "100"},
        )
        lines = [json.loads(line) for line in late.text.splitlines()]
        assert [line["error_type"] for line in lines] == ["Timeout", "Timeout"]
        wait_until(lambda: sample(client, "osa_cancelled_tokens_total") == 50)
        assert sample(client, 'te_request_failure{err="deadline"') == 1
        assert sample(client, "te_request_success") == 0


def test_a_reader_that_leaves_a_stream_frees_its_work(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client) as pool:
        assert isinstance(pool, ThreadPoolExecutor)
        with client.stream("POST", "/embed", json={"inputs": [[5] * 40]}, headers=LINES) as stream:
            assert stream.status_code == 200
            wait_until(lambda: sample(client, "osa_queued_tokens") == 40)
        wait_until(lambda: sample(client, "osa_queued_tokens") == 0)
        assert sample(client, 'te_request_failure{err="cancelled"') == 1
    assert all(5 not in ids for ids in engine.computed)


def test_prompts_go_before_texts(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(
        model__path=tiny_checkpoint,
        model__prompts=json.dumps({"query": "the dog ", "none": ""}),
        model__default_prompt_name="none",
    )
    plain = client.post("/embed", json={"inputs": "sat"}).json()
    asked = client.post("/embed", json={"inputs": "sat", "prompt_name": "query"}).json()
    assert asked == client.post("/embed", json={"inputs": "the dog sat"}).json() != plain
    unknown = client.post("/embed", json={"inputs": "sat", "prompt_name": "passage"})
    assert unknown.status_code == 422
    assert "none, query" in unknown.json()["error"]
    ids = client.post("/embed", json={"inputs": [[4]], "prompt_name": "query"})
    assert ids.status_code == 422
    assert client.get("/info").json()["prompts"] == ["none", "query"]


def test_a_default_prompt_does_not_shift_the_chunks_of_a_document(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    plain = serve(model__path=tiny_checkpoint)
    prompts = json.dumps({"passage": "the dog ran on "})
    prompted = serve(
        model__path=tiny_checkpoint, model__prompts=prompts, model__default_prompt_name="passage"
    )
    chunked = {"inputs": "a cat sat", "chunking": {"strategy": "tokens", "size": 2, "overlap": 0}}
    for path, body in (("/embed_chunks", chunked), ("/embed_all", {"inputs": "a cat sat"})):
        assert prompted.post(path, json=body).json() == plain.post(path, json=body).json(), path
    text = {"inputs": "a cat sat"}
    assert prompted.post("/embed", json=text).json() != plain.post("/embed", json=text).json()
