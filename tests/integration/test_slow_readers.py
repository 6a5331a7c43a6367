"""Clients that do not read their answers hold nothing but their own place, and not for ever."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_until
from tests.integration.test_overload import sample
from tests.wire import connected, post, read_to_end

Serve = Callable[..., httpx.Client]
PATIENT = 3600.0
NDJSON = b"Accept: application/x-ndjson\r\n"
MANY = json.dumps({"inputs": ["the cat sat on the mat"] * 2000}).encode()
LONG = json.dumps({"inputs": "the cat " * 30_000}).encode()
LAST = b"Connection: close\r\n"
ASKING = {
    "one piece": post(LAST, MANY),
    "lines": post(NDJSON + LAST, MANY),
    "tokens": post(LAST, LONG, b"/tokenize"),
}
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def quick(serve: Serve, tiny_checkpoint: Path) -> Callable[..., httpx.Client]:
    def start(**settings: object) -> httpx.Client:
        return serve(model__path=tiny_checkpoint, batching__max_batch_tokens=16384,
                     **{"server__write_timeout_s": PATIENT, **settings})  # fmt: skip

    return start


@contextmanager
def asked(
    client: httpx.Client, request: bytes, times: int = 1, receive_buffer: int = 4096
) -> Iterator[list[socket.socket]]:
    """Clients that ask and do not read."""
    with ExitStack() as stack:
        wires = []
        for _ in range(times):
            wires.append(stack.enter_context(connected(client, receive_buffer)))
            wires[-1].sendall(request)
        yield wires


def open_now(client: httpx.Client) -> float:
    return sample(client, "osa_in_flight_requests")


@pytest.mark.parametrize("request_bytes", ASKING.values(), ids=ASKING)
def test_a_request_holds_its_place_until_its_answer_is_out(
    quick: Callable[..., httpx.Client], request_bytes: bytes
) -> None:
    client = quick(server__max_concurrent_requests=1)
    with asked(client, request_bytes) as (wire,):
        wait_until(lambda: sample(client, "osa_answer_bytes") > 0)
        assert open_now(client) == 1
        assert client.post("/embed", json={"inputs": "a"}).status_code == 429
        wire.settimeout(60)
        received = read_to_end(wire)
        assert received.endswith((b"]", b"0\r\n\r\n"))
        wait_until(lambda: open_now(client) == 0)
        assert sample(client, "osa_answer_bytes") == 0
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200


@pytest.mark.parametrize("request_bytes", ASKING.values(), ids=ASKING)
def test_who_takes_nothing_is_let_go(
    quick: Callable[..., httpx.Client], request_bytes: bytes
) -> None:
    client = quick(server__write_timeout_s=0.5)
    with asked(client, request_bytes, times=3) as wires:
        wait_until(lambda: sample(client, "osa_slow_readers_total") == 3)
        wait_until(lambda: open_now(client) == 0)
        for wire in wires:
            with pytest.raises(ConnectionResetError):
                read_to_end(wire)
    assert sample(client, "osa_answer_bytes") == 0


def test_who_reads_slowly_but_steadily_gets_all(quick: Callable[..., httpx.Client]) -> None:
    client = quick(server__write_timeout_s=2)
    began, received = time.monotonic(), b""
    with asked(client, ASKING["tokens"]) as (wire,):
        while piece := wire.recv(65536, socket.MSG_WAITALL):
            received += piece
            if time.monotonic() - began < 6:
                time.sleep(0.25)
    assert time.monotonic() - began > 4, "it was not slow"
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])[0]) == 30_000 * 2 + 2
    assert sample(client, "osa_slow_readers_total") == 0


def test_a_drop_now_and_then_is_no_reading(quick: Callable[..., httpx.Client]) -> None:
    client = quick(server__write_timeout_s=1)
    with asked(client, ASKING["one piece"]) as (wire,), contextlib.suppress(ConnectionError):
        for _ in range(60):
            assert wire.recv(1)
            time.sleep(0.25)
            wire.send(b"\r\n")  # fails once the connection is reset
    assert sample(client, "osa_slow_readers_total") == 1


def test_thousands_of_pipelined_requests_are_not_answered_into_memory(
    quick: Callable[..., httpx.Client],
) -> None:
    client = quick(server__write_timeout_s=2)
    with connected(client, receive_buffer=4096) as wire:
        wire.settimeout(0.5)
        with pytest.raises((TimeoutError, OSError)):
            wire.sendall(PAGE * 500_000)
        assert 0 < sample(client, "osa_answer_bytes") < 1_000_000
        wait_until(lambda: sample(client, "osa_slow_readers_total") == 1)
    assert sample(client, "osa_answer_bytes") == 0


def test_answers_that_nobody_takes_are_bounded_in_all(quick: Callable[..., httpx.Client]) -> None:
    client = quick(server__answer_memory=1_000_000, server__write_timeout_s=30)
    with asked(client, ASKING["tokens"], times=2):
        wait_until(lambda: sample(client, "osa_answer_bytes") > 1_000_000)
        refused = client.post("/embed", json={"inputs": "a"})
        assert refused.status_code == 429
        assert "server.answer_memory" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200
        wait_until(lambda: sample(client, "osa_slow_readers_total") == 2)  # after two seconds
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(("piece", "stays"), [(4096, False), (131_072, True)])
def test_who_reads_too_slowly_for_so_much_is_let_go(
    quick: Callable[..., httpx.Client], piece: int, stays: bool
) -> None:
    """Both read steadily; only one would be done within the time."""
    client = quick(server__answer_memory=1_000_000, server__write_timeout_s=30)
    began, asking = time.monotonic(), asked(client, ASKING["tokens"], receive_buffer=piece)
    with asking as (wire,), contextlib.suppress(ConnectionError):
        while wire.recv(piece, socket.MSG_WAITALL):
            if time.monotonic() - began < 5:
                time.sleep(0.25)
    assert time.monotonic() - began > 2
    assert sample(client, "osa_slow_readers_total") == (0 if stays else 1)
    wait_until(lambda: sample(client, "osa_answer_bytes") == 0)
