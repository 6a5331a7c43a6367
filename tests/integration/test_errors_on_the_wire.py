"""Every error on a real socket: status, documented body, and the server keeps running."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.service.engines.eager import EagerEngine

JSON = {"content-type": "application/json"}
CASES = [
    (b'{"inputs": NaN}', 400, 400),
    (b'{"inputs": [[NaN]]}', 400, 400),
    (b'{"inputs": 1e400}', 400, 400),
    (b'{"inputs": "\\ud800"}', 400, 400),
    (b'{"inputs": "a"', 400, 400),
    (b"", 400, 400),
    (b"\xff\xfe", 400, 400),
    (b"[" * 5000, 400, 400),
    (b'{"inputs": []}', 400, 400),
    (b'{"inputs": ""}', 400, 400),
    (b'{"inputs": [[]]}', 400, 400),
    (b'{"inputs": ["1", 1]}', 422, 400),
    (b'{"inputs": [1, "1"]}', 422, 400),
    (b'{"inputs": [true]}', 422, 400),
    (b'{"inputs": [1.5]}', 422, 400),
    (b'{"inputs": [30522]}', 422, 400),
    (b'{"inputs": [-1]}', 422, 400),
    (b'{"inputs": [99999999999999999999999]}', 422, 400),
    (b'{"inputs": {"a": 1}}', 422, 400),
    (b'{"inputs": "a", "dimensions": 500}', 422, 400),
    (b'{"inputs": "a", "dimensions": 0}', 422, 400),
    (b"{}", 422, 400),
    (b"null", 422, 400),
]


def is_native_error(response: httpx.Response) -> bool:
    body = response.json()
    return set(body) == {"error", "error_type"} and all(isinstance(v, str) for v in body.values())


def is_openai_error(response: httpx.Response) -> bool:
    body = response.json()
    return set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("body", "native", "openai"), CASES)
def test_bad_input_gets_the_documented_refusal(
    client: httpx.Client, body: bytes, native: int, openai: int
) -> None:
    response = client.post("/embed", content=body, headers=JSON)
    assert (response.status_code, is_native_error(response)) == (native, True), response.text
    body = body.replace(b'"inputs"', b'"input"')
    response = client.post("/v1/embeddings", content=body, headers=JSON)
    assert (response.status_code, is_openai_error(response)) == (openai, True), response.text
    assert client.post("/embed", json={"inputs": "still here"}).status_code == 200


def test_a_large_body_is_refused_and_the_client_gets_to_read_why(client: httpx.Client) -> None:
    body = json.dumps({"inputs": "a" * 3_000_000}).encode()
    response = client.post("/embed", content=body, headers=JSON)
    assert (response.status_code, is_native_error(response)) == (413, True)
    response = client.post("/v1/embeddings", content=body, headers=JSON)
    assert (response.status_code, is_openai_error(response)) == (413, True)
    assert client.get("/health").status_code == 200


def test_a_large_chunked_body_is_refused_too(client: httpx.Client) -> None:
    chunks = (b"x" * 100_000 for _ in range(30))
    response = client.post("/embed", content=chunks, headers=JSON)
    assert (response.status_code, is_native_error(response)) == (413, True)


def test_other_content_types_are_refused(client: httpx.Client) -> None:
    response = client.post("/embed", content=b"a=b", headers={"content-type": "text/plain"})
    assert (response.status_code, is_native_error(response)) == (415, True)


def test_a_missing_content_type_is_taken_for_json(client: httpx.Client) -> None:
    assert client.post("/embed", content=b'{"inputs": "a"}').status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/embed", 405),
        ("DELETE", "/info", 405),
        ("POST", "/embed/", 404),
    ],
)
def test_routing_errors_are_json(client: httpx.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert (response.status_code, is_native_error(response)) == (status, True)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nowhere", 404), ("GET", "/v1/embeddings", 405)]
)
def test_routing_errors_below_v1_are_openais(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert (response.status_code, is_openai_error(response)) == (status, True)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/embed", "POST"),
        ("/", "GET, POST"),
        ("/admin/models/x", "DELETE, POST"),
        ("/v2/models/x/infer", "POST"),
    ],
)
def test_another_method_is_told_every_one_that_is_allowed(
    client: httpx.Client, path: str, methods: str
) -> None:
    assert client.put(path).headers["allow"] == methods


def test_too_many_inputs_are_refused(client: httpx.Client) -> None:
    response = client.post("/embed", json={"inputs": ["a"] * 2049})
    assert response.status_code == 422
    assert "2049 inputs in one request, at most 2048" in response.json()["error"]


def read_to_end(wire: socket.socket) -> bytes:
    return b"".join(iter(lambda: wire.recv(65536), b""))


def raw_exchange(client: httpx.Client, request: bytes) -> bytes:
    """Send bytes as they are; return all that comes back."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), 10) as wire:
        wire.sendall(request)
        return read_to_end(wire)


def test_two_lengths_of_one_body_are_refused(client: httpx.Client) -> None:
    request = (
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert raw_exchange(client, request).startswith(b"HTTP/1.1 400")


def test_bytes_that_are_no_http_are_refused(client: httpx.Client) -> None:
    answer = raw_exchange(client, b"\x00\x01\x02\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body == {"error": "the request is not valid HTTP", "error_type": "Validation"}
    assert client.get("/health").status_code == 200


def test_a_body_that_does_not_arrive_is_refused_and_holds_no_place(
    serve: Callable[..., httpx.Client],
) -> None:
    bound = serve(server__body_timeout_s=0.3, server__max_concurrent_requests=1)
    address = (bound.base_url.host, bound.base_url.port or 0)
    with socket.create_connection(address, 10) as slow:
        slow.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert bound.post("/embed", json={"inputs": "meanwhile"}).status_code == 200
        answer = read_to_end(slow)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"error_type":"Timeout"' in answer


def test_an_error_nobody_foresaw_is_answered_and_tells_nothing(
    serve: Callable[..., httpx.Client], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    engine = EagerEngine(tiny_checkpoint, "cpu")
    monkeypatch.setattr(engine.tokenizer, "iterate", broken)
    bound = serve(engine, batching__max_batch_tokens=256)
    for path, field, check in (
        ("/embed", "inputs", is_native_error),
        ("/v1/embeddings", "input", is_openai_error),
    ):
        response = bound.post(path, json={field: "a"}, headers={"x-request-id": "r"})
        assert (response.status_code, check(response)) == (500, True)
        assert response.headers["x-request-id"] == "r"
        assert "secret" not in response.text


def test_head_is_answered_like_get(client: httpx.Client) -> None:
    response = client.head("/health")
    assert (response.status_code, response.content) == (200, b"")


def test_an_upgrade_offer_does_not_lose_the_body(client: httpx.Client) -> None:
    """Java's default client offers h2c with every POST."""
    headers = {**JSON, "connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
    response = client.post("/embed", content=b'{"inputs": "a"}', headers=headers)
    assert response.status_code == 200


def test_strange_request_ids_are_replaced(client: httpx.Client) -> None:
    response = client.get("/info", headers={"x-request-id": "x" * 200})
    assert len(response.headers["x-request-id"]) == 32
