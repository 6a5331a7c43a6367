"""Traces as a collector receives them: requests with their stages, batches linked to requests."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from osa.model.errors import ConfigError
from osa.service.server.app import create_service
from tests.conftest import local_settings, run_service

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP/HTTP receiver: its address, and the spans that came."""
    spans: list[Span] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    server.shutdown()
    server.server_close()


def test_a_batch_is_linked_to_its_requests_and_they_to_their_callers(
    collector: tuple[str, list[Span]], tiny_checkpoint: Path
) -> None:
    endpoint, spans = collector
    settings = local_settings(model__path=tiny_checkpoint, tracing__endpoint=endpoint)
    with run_service(create_service(settings), settings) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        assert client.post("/embed", json={"inputs": "the cat"}, headers=headers).status_code == 200
        assert client.post("/embed", json={"inputs": []}).status_code == 400
    by_name = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    request = by_name["POST /embed"]
    assert request.parent_span_id.hex() == PARENT
    facts = {item.key: item.value for item in request.attributes}
    assert facts["osa.request_id"].string_value == "mine"
    assert facts["http.response.status_code"].int_value == 200
    for stage in ("tokenization", "queue", "inference"):
        assert by_name[stage].parent_span_id == request.span_id
        assert by_name[stage].end_time_unix_nano >= by_name[stage].start_time_unix_nano
    (batch,) = [span for span in spans if span.name == "batch"]
    assert [link.span_id for link in batch.links] == [request.span_id]
    assert batch.trace_id.hex() != TRACE
    assert not any("the cat" in str(span) for span in spans), "a text was sent"
    refused = [span for span in spans if span.name == "POST /embed" and span is not request]
    assert [item.value.int_value for item in refused[0].attributes][-1] == 400


def test_a_call_over_grpc_is_traced_as_a_request(
    collector: tuple[str, list[Span]], tiny_checkpoint: Path
) -> None:
    pytest.importorskip("grpc_health", reason="the extra grpc is not installed")
    from tests.grpc_client import ids_request, running

    endpoint, spans = collector
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    with running(model__path=tiny_checkpoint, tracing__endpoint=endpoint) as served:
        served.grpc.infer(ids_request([4, 5]), metadata=metadata)
    by_name = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    request = by_name["POST /inference.GRPCInferenceService/ModelInfer"]
    assert request.parent_span_id.hex() == PARENT
    for stage in ("tokenization", "queue", "inference"):
        assert by_name[stage].parent_span_id == request.span_id
    (batch,) = [span for span in spans if span.name == "batch"]
    assert [link.span_id for link in batch.links] == [request.span_id]


def test_tracing_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=r"pip install 'osa-encoder\[tracing\]'"):
        create_service(local_settings(model__path=tiny_checkpoint, tracing__endpoint="http://x"))


def test_nothing_is_sent_unless_asked(
    serve: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    client = serve(model__path=tiny_checkpoint)
    assert client.post("/embed", json={"inputs": "the cat"}).status_code == 200
