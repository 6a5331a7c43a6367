"""gRPC under keys, quotas, limits, deadlines, cancellation, failures, health checks and drain."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc_health", reason="the extra grpc is not installed")
import grpc
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from osa.service.api.kserve.rpc import messages
from osa.service.auth.api_keys import make_key
from tests.conftest import PATIENCE_S, wait_until
from tests.engines import FaultyEngine, GatedEngine
from tests.grpc_client import (
    MODEL,
    NOT_SERVING,
    SERVING,
    GrpcClient,
    Running,
    ids_request,
    running,
)

SMALL = {"batching__max_batch_tokens": 256, "batching__max_queue_tokens": 256,
         "model__max_input_length": 256}  # fmt: skip


def sample(client: httpx.Client, name: str) -> float:
    """Sum of a metric's samples."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def failures(client: httpx.Client, code: str) -> float:
    return sample(client, f'te_request_failure{{err="{code}"')


@contextmanager
def held(engine: GatedEngine, client: GrpcClient) -> Iterator[Any]:
    """One call blocks the engine; at the end it is released and answered."""
    first = client.begin(ids_request([4]))
    try:
        assert engine.entered.wait(PATIENCE_S)
        yield first
    finally:
        engine.gate.set()
    assert first.result(PATIENCE_S)


@pytest.fixture
def gated(tiny_checkpoint: Path) -> Iterator[tuple[GatedEngine, Running]]:
    engine = GatedEngine(tiny_checkpoint)
    with running(engine, **SMALL) as served:
        yield engine, served


# Who may come in


@pytest.fixture
def guarded(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[tuple[str, Running]]:
    """The only key, with 60 tokens a minute, and a server that asks for it."""
    secret, entry = make_key("small", 60, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    file = tmp_path / "keys.toml"
    with running(model__path=tiny_checkpoint, auth__keys_file=file) as served:
        yield secret, served


def test_calls_need_a_known_key_and_probes_do_not(guarded: tuple[str, Running]) -> None:
    secret, (_, http, client) = guarded
    for metadata, told in (
        ((), "no API key was sent"),
        ((("authorization", "Basic b3NhOndyb25n"),), "not 'Bearer KEY'"),
        ((("authorization", "Bearer osa-wrong"),), "unknown API key"),
    ):
        error = client.refused(
            ids_request([4]), StatusCode.UNAUTHENTICATED, told, metadata=metadata
        )
        assert "osa-wrong" not in error.details()
        for name in ("ModelReady", "ModelMetadata", "ServerMetadata"):
            with pytest.raises(grpc.RpcError) as refused:
                client.call(name, metadata=metadata)
            assert refused.value.code() is StatusCode.UNAUTHENTICATED, name
    assert failures(http, "invalid_api_key") == 12
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.status() == SERVING
    for metadata in ((("authorization", f"Bearer {secret}"),), (("x-api-key", secret),)):
        assert client.infer(ids_request([4]), metadata=metadata).outputs


def test_a_quota_is_that_of_http(guarded: tuple[str, Running]) -> None:
    secret, (_, http, client) = guarded
    key = (("authorization", f"Bearer {secret}"),)
    assert client.infer(ids_request([4] * 40), metadata=key).outputs
    refused = http.post("/embed", json={"inputs": [[4] * 40]}, headers=dict(key))
    assert refused.status_code == 429
    error = client.refused(
        ids_request([4] * 40), StatusCode.RESOURCE_EXHAUSTED, "of 60 a minute", metadata=key
    )
    trailing = dict(error.trailing_metadata())
    assert 15 <= int(trailing["retry-after"]) <= 20
    assert int(trailing["grpc-retry-pushback-ms"]) == 1000 * int(trailing["retry-after"])
    assert failures(http, "quota") == 2


# Limits


def test_too_many_inputs_are_refused(tiny_checkpoint: Path) -> None:
    with running(model__path=tiny_checkpoint, batching__max_client_batch_size=2) as served:
        told = "3 inputs in one request, at most 2 are allowed"
        served.grpc.refused(ids_request([4], [4], [4]), StatusCode.INVALID_ARGUMENT, told)


def test_too_many_open_calls_are_refused_whatever_the_transport(tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    with (
        running(engine, server__max_concurrent_requests=1, **SMALL) as (_, http, client),
        held(engine, client),
    ):
        told = "1 requests are open, at most 1"
        client.refused(ids_request([5]), StatusCode.RESOURCE_EXHAUSTED, told)
        assert http.post("/embed", json={"inputs": "the dog"}).status_code == 429
        assert client.call("ServerLive").live
        assert sample(http, "osa_in_flight_requests") == 1


def test_a_full_queue_refuses_and_readiness_falls(gated: tuple[GatedEngine, Running]) -> None:
    engine, (_, http, client) = gated
    with held(engine, client):
        waiting = client.begin(ids_request([1] * 256))
        wait_until(lambda: sample(http, "osa_queued_tokens") == 256)
        assert client.status() == NOT_SERVING
        assert not client.call("ServerReady").ready
        assert client.call("ServerLive").live
        error = client.refused(ids_request([1]), StatusCode.RESOURCE_EXHAUSTED, "the queue holds")
        assert int(dict(error.trailing_metadata())["retry-after"]) >= 1
    assert waiting.result(PATIENCE_S)
    assert client.status() == SERVING


# Time, and clients that leave


def test_a_passed_deadline_drops_what_is_queued(gated: tuple[GatedEngine, Running]) -> None:
    engine, (_, http, client) = gated
    with held(engine, client):
        client.refused(ids_request([5, 5]), StatusCode.DEADLINE_EXCEEDED, "", timeout=0.2)
        wait_until(lambda: sample(http, "osa_cancelled_tokens_total") == 2)
        wait_until(lambda: failures(http, "deadline") == 1)
        assert sample(http, "osa_in_flight_requests") == 1
    assert [5, 5] not in engine.computed


def test_the_server_has_a_deadline_for_calls_without_one(tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    with (
        running(engine, server__request_timeout_s=0.2, **SMALL) as (_, http, client),
        engine.holding(http),
    ):
        told = "no answer before the deadline"
        client.refused(ids_request([5]), StatusCode.DEADLINE_EXCEEDED, told, timeout=None)
        patient = client.begin(ids_request([6]), timeout=PATIENCE_S)
        engine.gate.set()
        assert patient.result(PATIENCE_S)
    assert [5] not in engine.computed


def test_work_of_a_cancelled_call_is_dropped(gated: tuple[GatedEngine, Running]) -> None:
    engine, (_, http, client) = gated
    with held(engine, client):
        leaving = client.begin(ids_request([5] * 100))
        wait_until(lambda: sample(http, "osa_queued_tokens") == 100)
        leaving.cancel()
        wait_until(lambda: sample(http, "osa_queued_tokens") == 0)
        assert sample(http, "osa_cancelled_tokens_total") == 100
        wait_until(lambda: failures(http, "cancelled") == 1)
    assert all(5 not in ids for ids in engine.computed)


# What is told


def test_a_failing_input_is_named(tiny_checkpoint: Path) -> None:
    with running(FaultyEngine(tiny_checkpoint, "raise"), **SMALL) as (_, http, client):
        client.refused(ids_request([4], [9], [5]), StatusCode.INTERNAL, "input 1: ")
        assert client.infer(ids_request([4], [5])).outputs
        assert failures(http, "backend") == 1


def test_metrics_and_metadata_are_those_of_http(tiny_checkpoint: Path) -> None:
    with running(model__path=tiny_checkpoint) as (_, http, client):
        raw = ids_request([4, 5], [6, 7]).SerializeToString()
        _, call = client.method("ModelInfer").with_call(raw, metadata=(("x-request-id", "mine"),))
        told = dict(call.trailing_metadata())
        answer = http.post(
            "/embed", json={"inputs": [[4, 5], [6, 7]]}, headers={"x-request-id": "mine"}
        )
        assert {name for name in answer.headers if name.startswith("x-")} == set(told)
        assert (told["x-request-id"], told["x-compute-tokens"]) == ("mine", "4")
        client.infer(ids_request([4]))
        client.refused(ids_request([4], model="other"), StatusCode.NOT_FOUND, "served: osa-default")
        lines = http.get("/metrics").text.splitlines()
        model = f'model="{MODEL}"'
        for line in (
            f'te_request_count{{method="batch",{model}}} 2.0',
            f'te_request_count{{method="single",{model}}} 1.0',
            f'te_request_success{{method="batch",{model}}} 2.0',
            f'te_request_failure{{err="model_not_found",{model}}} 1.0',
            f"te_embed_success{{{model}}} 5.0",
            f"te_request_duration_count{{{model}}} 3.0",
        ):
            assert line in lines, line


# The drain


def test_a_drain_flips_health_finishes_open_calls_and_refuses_new_ones(
    gated: tuple[GatedEngine, Running],
) -> None:
    engine, (server, http, client) = gated
    seen: list[object] = []
    asked = health_pb2.HealthCheckRequest(service=messages.SERVICE)
    watching = client.health.Watch(asked)

    def watch() -> None:
        try:
            seen.extend(answer.status for answer in watching)
        except grpc.RpcError as end:
            seen.append(end.code())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with held(engine, client):
        wait_until(lambda: seen == [SERVING])
        server.handle_exit(signal.SIGTERM, None)
        assert client.status() == client.status(messages.SERVICE) == NOT_SERVING
        assert not client.call("ServerReady").ready
        assert http.get("/readyz").status_code == 503
        error = client.refused(ids_request([5]), StatusCode.UNAVAILABLE, "the server is draining")
        assert dict(error.trailing_metadata())["retry-after"] == "5"
        wait_until(lambda: seen == [SERVING, NOT_SERVING])
    watcher.join(PATIENCE_S)
    assert seen == [SERVING, NOT_SERVING, StatusCode.UNAVAILABLE], "the server ends the call"


def test_an_unknown_service_is_not_found(gated: tuple[GatedEngine, Running]) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        gated[1].grpc.status("other")
    assert unknown.value.code() is StatusCode.NOT_FOUND


def test_the_end_of_the_drain_is_an_answer_too(tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    with running(engine, server__drain_timeout_s=0.2, **SMALL) as (server, _, client):
        first = client.begin(ids_request([4]))
        assert engine.entered.wait(PATIENCE_S)
        server.handle_exit(signal.SIGTERM, None)
        failure = first.exception(PATIENCE_S)
        engine.gate.set()
    assert failure.code() is StatusCode.UNAVAILABLE
    assert failure.details() == "the server has stopped waiting for this request"
