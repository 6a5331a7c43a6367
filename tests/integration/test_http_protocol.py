"""HTTP/1.1 on a real socket: upgrades, pipelining, endless and slow headers, invalid HTTP."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from osa.service.server.heads import MAX_HEAD
from tests.wire import BODY, HEALTH, connected, post, read_answer, read_to_end

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("segments", ["one", "head and body", "bytes"])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_an_upgrade_offer_is_declined_and_the_connection_goes_on(
    client: httpx.Client, segments: str, coding: str
) -> None:
    request = post(OFFER)
    if coding == "chunked":
        head = b"POST /embed HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n" % OFFER
        request = b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(BODY), BODY)
    cut = request.index(b"\r\n\r\n") + 4
    parts = {
        "one": [request],
        "head and body": [request[:cut], request[cut:]],
        "bytes": [request[place : place + 1] for place in range(len(request))],
    }[segments]
    with connected(client) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for part in parts:
                wire.sendall(part)
            status, headers, body = read_answer(wire)
            assert (status, len(json.loads(body))) == (200, 1)
            assert b"upgrade" not in headers


def test_an_offer_of_a_closing_client_leaves_the_connection_closed(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(post(b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n"))
        status, headers, _ = read_answer(wire)
        assert (status, headers[b"connection"]) == (200, b"close")
        assert wire.recv(1) == b""


def test_pipelined_requests_are_answered_in_order(client: httpx.Client) -> None:
    two = post(body=b'{"inputs": ["a", "b"]}')
    with connected(client) as wire:
        wire.sendall(HEALTH + post(OFFER) + two + post(OFFER) + HEALTH)
        bodies = [read_answer(wire)[2] for _ in range(5)]
    assert [len(json.loads(body)) for body in bodies[1:4]] == [1, 2, 1]
    assert bodies[0] == bodies[4]


def test_an_answer_that_is_due_goes_before_the_refusal_of_what_follows(
    client: httpx.Client,
) -> None:
    with connected(client) as wire:
        wire.sendall(post() + b"\x00\x01 nonsense\r\n\r\n")
        status, headers, body = read_answer(wire)
        assert (status, len(json.loads(body))) == (200, 1)
        assert headers[b"connection"] == b"close"
        assert wire.recv(1) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_cannot_be_read_is_refused_in_json_and_the_connection_closed(
    client: httpx.Client, request_bytes: bytes
) -> None:
    with connected(client) as wire:
        wire.sendall(request_bytes)
        status, headers, body = read_answer(wire)
        assert (status, headers[b"connection"]) == (400, b"close")
        assert json.loads(body)["error_type"] == "Validation"
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "start",
    [
        b"GET /health HTTP/1.1\r\nx-endless: ",
        b"GET /",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-trailer: ",
    ],
)
def test_a_head_without_end_is_refused(client: httpx.Client, start: bytes) -> None:
    sent = len(start)
    with connected(client) as wire:
        wire.sendall(start)
        with pytest.raises(ConnectionError):  # noqa: PT012  # where it breaks is the system's affair
            while sent < 64 * MAX_HEAD:
                wire.sendall(b"a" * 8192)
                sent += 8192
                time.sleep(0.001)
    assert client.get("/health").status_code == 200


def test_a_head_over_the_limit_is_told_so(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(b"GET /health HTTP/1.1\r\nx-long: ")
        while not select.select([wire], [], [], 0.1)[0]:
            wire.sendall(b"a" * (MAX_HEAD // 4))
        status, _, body = read_answer(wire)
    assert status == 431
    assert json.loads(body) == {
        "error": f"the head is over the limit of {MAX_HEAD} bytes",
        "error_type": "Validation",
    }


@pytest.mark.parametrize("trickle", [b"", b"a"])
def test_who_completes_no_head_is_left_when_the_time_is_up(
    serve: Callable[..., httpx.Client], trickle: bytes
) -> None:
    bound = serve(server__keep_alive_s=1)
    began = time.monotonic()
    with connected(bound) as wire:
        wire.settimeout(0.1)
        wire.sendall(b"GET /" if trickle else b"")
        while time.monotonic() - began < 10:
            try:
                assert wire.recv(1) == b""
                break
            except TimeoutError:  # nothing yet
                wire.sendall(trickle)
    assert 0.5 < time.monotonic() - began < 5


def test_an_old_client_gets_its_answer_and_the_end(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        status, headers, _ = read_answer(wire)
        assert (status, headers[b"connection"]) == (200, b"close")
        assert wire.recv(1) == b""


def test_an_old_client_gets_a_stream_without_chunks(client: httpx.Client) -> None:
    request = post(b"Accept: application/x-ndjson\r\n", b'{"inputs": ["a", "b"]}')
    with connected(client) as wire:
        wire.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = read_to_end(wire).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert sorted(json.loads(line)["index"] for line in body.splitlines()) == [0, 1]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://elsewhere/embed", 200),
        (b"/embed?a=%20b", 200),
        (b"/%65mbed", 200),
        (b"//embed", 200),
        (b"/embed%2f", 404),
    ],
)
def test_every_form_of_a_target_is_read(client: httpx.Client, target: bytes, status: int) -> None:
    with connected(client) as wire:
        wire.sendall(post(path=target))
        assert read_answer(wire)[0] == status


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(client: httpx.Client) -> None:
    request = post(b"Expect: 100-continue\r\n")
    with connected(client) as wire:
        wire.sendall(request[: -len(BODY)])
        expected = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wire.recv(len(expected), socket.MSG_WAITALL) == expected
        wire.sendall(BODY)
        assert read_answer(wire)[0] == 200
