"""Admission, deadlines, disconnects and failures while the engine is blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import httpx
import pytest

from tests.conftest import wait_until
from tests.engines import FaultyEngine, GatedEngine, How

Serve = Callable[..., httpx.Client]
SMALL = {"batching__max_batch_tokens": 256, "batching__max_queue_tokens": 256,
         "model__max_input_length": 256}  # fmt: skip


def sample(client: httpx.Client, name: str) -> float:
    """Sum of a metric's samples."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@contextmanager
def held(engine: GatedEngine, client: httpx.Client) -> Iterator[ThreadPoolExecutor]:
    """One request blocks the engine; at the end it is released and answered."""
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/embed", json={"inputs": [[4]]})
        try:
            assert engine.entered.wait(10)
            yield pool
        finally:
            engine.gate.set()
        assert first.result().status_code == 200


def test_a_full_queue_answers_429_and_readiness_falls(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client) as pool:
        waiting = pool.submit(client.post, "/embed", json={"inputs": [[1] * 256]})
        wait_until(lambda: sample(client, "osa_queued_tokens") == 256)
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        refused = client.post("/embed", json={"inputs": [[1]]})
        assert refused.status_code == 429
        assert refused.json()["error_type"] == "Overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        openai = client.post("/v1/embeddings", json={"input": [[1]]})
        assert (openai.status_code, openai.json()["error"]["code"]) == (429, "overloaded")
    assert waiting.result().status_code == 200
    assert client.get("/readyz").status_code == 200


def test_too_many_open_requests_answer_429(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, server__max_concurrent_requests=1, **SMALL)
    with held(engine, client):
        assert client.post("/embed", json={"inputs": "the dog"}).status_code == 429


def test_a_passed_deadline_answers_504_and_is_not_computed(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client):
        headers = {"x-request-timeout-ms": "50"}
        late = client.post("/embed", json={"inputs": [[5, 5]]}, headers=headers)
        assert (late.status_code, late.json()["error_type"]) == (504, "Timeout")
        assert sample(client, "osa_cancelled_tokens_total") == 2
    assert [5, 5] not in engine.computed


@pytest.mark.parametrize("header", ["soon", "0", "-5", "nan", "1e12"])
def test_a_deadline_that_is_none_is_refused(client: httpx.Client, header: str) -> None:
    response = client.post("/embed", json={"inputs": "a"}, headers={"x-request-timeout-ms": header})
    assert response.status_code == 422


def test_work_of_a_client_that_leaves_is_dropped(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)

    def give_up() -> None:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.5) as hasty:
            hasty.post(client.base_url.join("/embed"), json={"inputs": [[5] * 100]})

    with held(engine, client) as pool:
        leaving = pool.submit(give_up)
        wait_until(lambda: sample(client, "osa_queued_tokens") == 100)
        leaving.result()
        wait_until(lambda: sample(client, "osa_queued_tokens") == 0)
        assert sample(client, "osa_cancelled_tokens_total") == 100
    assert all(5 not in ids for ids in engine.computed)


@pytest.mark.parametrize("how", get_args(How))
def test_a_failing_input_is_named_and_the_server_lives_on(
    serve: Serve, tiny_checkpoint: Path, how: How
) -> None:
    client = serve(FaultyEngine(tiny_checkpoint, how), **SMALL)
    response = client.post("/embed", json={"inputs": [[4], [9], [5]]})
    assert response.status_code == 500
    assert response.json()["error"].startswith("input 1: ")
    assert client.post("/embed", json={"inputs": [[4], [5]]}).status_code == 200
    assert client.get("/livez").status_code == 200


def test_a_stuck_engine_fails_liveness(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, server__stall_timeout_s=0.1, **SMALL)
    with held(engine, client):
        wait_until(lambda: client.get("/livez").status_code == 503)
        assert "has been running" in client.get("/livez").json()["status"]
    assert client.get("/livez").status_code == 200


def test_metrics_count_what_happened(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(FaultyEngine(tiny_checkpoint, "raise"), **SMALL)
    client.post("/embed", json={"inputs": ["the cat", "a dog ran"]})
    client.post("/embed", json={"inputs": "x " * 300})
    client.post("/embed", json={"inputs": []})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    model = 'model="osa-default"'
    for line in (
        f'te_request_count{{method="batch",{model}}} 1.0',
        f'te_request_count{{method="single",{model}}} 1.0',
        f'te_request_failure{{err="empty_input",{model}}} 1.0',
        f"te_embed_success{{{model}}} 3.0",
        f"osa_truncated_inputs_total{{{model}}} 1.0",
        f"te_request_input_length_sum{{{model}}} 265.0",
        f"te_request_duration_count{{{model}}} 2.0",
        f"te_queue_size{{{model}}} 0.0",
    ):
        assert line in response.text.splitlines(), line
