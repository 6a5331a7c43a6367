"""Clients that close their side after a request: answered, unless they have gone altogether."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import types
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_until
from tests.engines import GatedEngine
from tests.integration.test_overload import SMALL, held, sample
from tests.wire import BODY, HEALTH, connected, post, read_to_end

Serve = Callable[..., httpx.Client]
MALFORMED = b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"


def answers_of(client: httpx.Client, sent: bytes) -> bytes:
    """All that comes back to a client that sends and closes its side."""
    with connected(client) as wire:
        wire.sendall(sent)
        wire.shutdown(socket.SHUT_WR)
        return read_to_end(wire)


@pytest.mark.parametrize("sent", [post(), HEALTH, post().replace(b"TP/1.1", b"TP/1.0")])
def test_the_answer_comes(client: httpx.Client, sent: bytes) -> None:
    answer = answers_of(client, sent)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_answer_comes_however_long_it_takes(serve: Serve, tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client), connected(client) as wire:
        wire.sendall(post(body=b'{"inputs": [[5]]}'))
        wire.shutdown(socket.SHUT_WR)
        wire.settimeout(0.5)
        head = b""
        with contextlib.suppress(TimeoutError):  # the beginning of an answer at most
            while True:
                head += wire.recv(100)
        assert b"HTTP/1.1 200".startswith(head)
        engine.gate.set()
        wire.settimeout(20)
        answer = head + read_to_end(wire)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == 1


def test_a_stream_that_has_begun_goes_on_for_a_client_that_closes_its_side(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client), connected(client) as wire:
        wire.sendall(post(b"Accept: application/x-ndjson\r\n", b'{"inputs": [[5], [6]]}'))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += wire.recv(4096)
        wire.shutdown(socket.SHUT_WR)
        wire.settimeout(5)
        answer += wire.recv(1)  # the server asks whether anybody is there
        engine.gate.set()
        wire.settimeout(20)
        answer += read_to_end(wire)
    wire_like = types.SimpleNamespace(makefile=lambda *_: io.BytesIO(answer))
    response = http.client.HTTPResponse(wire_like)  # type: ignore[arg-type]
    response.begin()
    lines = [json.loads(line) for line in response.read().splitlines()]
    assert sorted(line["index"] for line in lines) == [0, 1]


def test_every_complete_request_is_answered(client: httpx.Client) -> None:
    answer = answers_of(client, post() * 3 + post()[:-1])
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    answer = answers_of(client, post() * 3 + MALFORMED)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    answer = answers_of(client, post() * 3 + post(body=BODY.ljust(20_000)))
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    answer = answers_of(client, HEALTH * 1000)
    assert answer.count(b"HTTP/1.1 200 OK") == 1000


@pytest.mark.parametrize("sent", [post()[:-1], HEALTH[:-1], b"", post()[: -len(BODY)]])
def test_half_a_request_is_left_at_once(serve: Serve, tiny_checkpoint: Path, sent: bytes) -> None:
    client = serve(model__path=tiny_checkpoint, server__body_timeout_s=3600,
                   server__keep_alive_s=3600, batching__max_batch_tokens=256)  # fmt: skip
    assert answers_of(client, sent) == b""


def test_a_lines_client_gets_every_line(client: httpx.Client) -> None:
    body = json.dumps({"inputs": ["a b"] * 50}).encode()
    answer = answers_of(client, post(b"Accept: application/x-ndjson\r\n", body))
    assert answer.count(b'"index"') == 50
    assert answer.endswith(b"0\r\n\r\n")


def test_work_of_a_client_that_closed_both_sides_is_dropped(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    """Its end looks like that of a half-closed one, until the server sends something."""
    engine = GatedEngine(tiny_checkpoint)
    client = serve(engine, **SMALL)
    with held(engine, client):
        with connected(client) as wire:
            wire.sendall(post(body=json.dumps({"inputs": [[5] * 100]}).encode()))
            wait_until(lambda: sample(client, "osa_queued_tokens") == 100)
        wait_until(lambda: sample(client, "osa_queued_tokens") == 0)
    assert all(5 not in ids for ids in engine.computed)
