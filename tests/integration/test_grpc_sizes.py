"""How large messages of gRPC are, and what all of them together hold."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("grpc_health", reason="the extra grpc is not installed")
import grpc
from grpc import StatusCode

from tests.conftest import PATIENCE_S, wait_until
from tests.engines import GatedEngine
from tests.grpc_client import ids_request, running
from tests.integration.test_grpc_operations import held, sample


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_message_over_the_limit_is_refused(
    tiny_checkpoint: Path, compression: grpc.Compression | None
) -> None:
    """Also where it is small until it is decompressed."""
    with running(model__path=tiny_checkpoint, server__payload_limit=100_000) as (_, _, client):
        large = ids_request([4], id="a" * 100_000)
        client.refused(
            large, StatusCode.RESOURCE_EXHAUSTED, "larger than max", compression=compression
        )
        assert client.infer(ids_request([4], id="a" * 90_000), compression=compression).outputs


def test_a_large_answer_comes_whole(tiny_checkpoint: Path) -> None:
    """Over gRPC's own default of 4 MB."""
    with running(model__path=tiny_checkpoint, batching__max_client_batch_size=70_000) as served:
        answer = served.grpc.infer(ids_request(*[[4]] * 70_000))
        assert len(answer.outputs[0].contents.fp32_contents) == 70_000 * 16


def test_bodies_of_calls_count_until_they_are_answered(tiny_checkpoint: Path) -> None:
    """In the memory of all bodies, with those of HTTP."""
    engine = GatedEngine(tiny_checkpoint)
    with running(engine, server__body_memory=10_000) as (_, http, client):
        with held(engine, client):
            waiting = client.begin(ids_request([5], id="a" * 8000))
            wait_until(lambda: sample(http, "osa_body_bytes") > 8000)
            told = "bodies of requests hold 12"
            large = ids_request([6], id="a" * 4000)
            client.refused(large, StatusCode.RESOURCE_EXHAUSTED, told)
            assert http.post("/embed", json={"inputs": "a" * 4000}).status_code == 429
            assert client.call("ServerLive").live
        assert waiting.result(PATIENCE_S)
        wait_until(lambda: sample(http, "osa_body_bytes") == 0)
