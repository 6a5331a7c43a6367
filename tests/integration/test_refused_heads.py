"""What RFC 9112 says a server must refuse is refused, and what it must accept is accepted."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import httpx
import pytest

from osa.service.server.heads import MAX_HEAD, MAX_HEADERS
from tests.integration.test_overload import sample
from tests.wire import BODY, HEALTH, connected, post, read_answer, read_to_end

CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(line: bytes, headers: bytes = b"Host: x\r\n") -> bytes:
    return b"%b\r\n%b\r\n" % (line, headers)


def chunked(chunks: bytes, coding: bytes = CHUNKED, version: bytes = b"1.1") -> bytes:
    return b"POST /embed HTTP/%b\r\nHost: x\r\n%b\r\n%b" % (version, coding, chunks)


REFUSED = {
    "no host": (get(b"GET /health HTTP/1.1", b""), 400),
    "two hosts": (get(b"GET /health HTTP/1.1", b"Host: x\r\nHost: x\r\n"), 400),
    "no valid host": (get(b"GET /health HTTP/1.1", b"Host: x/y\r\n"), 400),
    "space before colon": (post(b"X : 1\r\n"), 400),
    "folded line": (post(b"X: 1\r\n 2\r\n"), 400),
    "bare CR": (post(b"X: 1\r2\r\n"), 400),
    "lines end with LF": (post().replace(b"\r\n", b"\n"), 400),
    "space before the first header": (get(b"GET /health HTTP/1.1", b" X: 1\r\nHost: x\r\n"), 400),
    "NUL in a value": (post(b"X: a\0b\r\n"), 400),
    "no name": (post(b": 1\r\n"), 400),
    "space in a name": (post(b"X Y: 1\r\n"), 400),
    "no colon": (post(b"Xyz\r\n"), 400),
    "equal lengths": (post(b"Content-Length: 15\r\n"), 400),
    "other lengths": (post(b"Content-Length: 3\r\n"), 400),
    "signed length": (post().replace(b"Length: 15", b"Length: +15"), 400),
    "list of lengths": (post().replace(b"Length: 15", b"Length: 15, 15"), 400),
    "negative length": (post().replace(b"Length: 15", b"Length: -1"), 400),
    "endless length": (post().replace(b"Length: 15", b"Length: " + b"9" * 30), 400),
    "large length": (post().replace(b"Length: 15", b"Length: 9223372036854775808"), 413),
    "empty length": (post().replace(b"Length: 15", b"Length: "), 400),
    "length and chunks": (chunked(CHUNKS, b"Content-Length: 15\r\n" + CHUNKED), 400),
    "coding without chunks": (chunked(CHUNKS, b"Transfer-Encoding: gzip\r\n"), 400),
    "chunks are not last": (chunked(CHUNKS, b"Transfer-Encoding: chunked, gzip\r\n"), 400),
    "chunks in chunks": (chunked(CHUNKS, CHUNKED + CHUNKED), 400),
    "coding within chunks": (chunked(CHUNKS, b"Transfer-Encoding: gzip, chunked\r\n"), 501),
    "chunks in HTTP/1.0": (chunked(CHUNKS, version=b"1.0"), 400),
    "size that is none": (chunked(b"zz\r\n{}\r\n0\r\n\r\n"), 400),
    "signed size": (chunked(b"-f" + CHUNKS[1:]), 400),
    "endless size": (chunked(b"f" * 30 + CHUNKS[1:]), 400),
    "chunk that is longer": (chunked(b"3" + CHUNKS[1:]), 400),
    "CR in an extension": (chunked(b"f;a\rb" + CHUNKS[1:]), 400),
    "NUL in the target": (get(b"GET /he\0 HTTP/1.1"), 400),
    "no ASCII in the target": (get(b"GET /he\xe9 HTTP/1.1"), 400),
    "fragment": (get(b"GET /health#x HTTP/1.1"), 400),
    "target without slash": (get(b"GET health HTTP/1.1"), 400),
    "another scheme": (get(b"GET ftp://x/health HTTP/1.1"), 400),
    "user in the target": (get(b"GET http://a:b@x/health HTTP/1.1"), 400),
    "asterisk": (get(b"GET * HTTP/1.1"), 400),
    "tunnel": (get(b"CONNECT x:443 HTTP/1.1"), 400),
    "method in lower case": (get(b"get /health HTTP/1.1"), 501),
    "unknown method": (get(b"FOO /health HTTP/1.1"), 501),
    "endless method": (get(b"A" * 5000 + b" /health HTTP/1.1"), 501),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2.0": (get(b"GET /health HTTP/2.0"), 505),
    "HTTP/9.9": (get(b"GET /health HTTP/9.9"), 505),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "version that is none": (get(b"GET /health HTTP/1.10"), 400),
    "another protocol": (get(b"GET /health RTSP/1.0"), 400),
    "a third protocol": (get(b"SOURCE /health ICE/1.0"), 400),
    "two origins": (post(b"Origin: http://x\r\nOrigin: http://y\r\n"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "many headers": (post(b"x: 1\r\n" * MAX_HEADERS), 431),
    "long head in one": (post(b"x: " + b"a" * 200_000 + b"\r\n"), 431),
    "head just over the limit": (post(b"x: " + b"a" * MAX_HEAD + b"\r\n"), 431),
    "long target": (get(b"GET /" + b"a" * 70_000 + b" HTTP/1.1"), 414),
    "long extensions": (chunked(b"1;" + b"a" * 40_000 + b"\r\n \r\n1;" + b"a" * 40_000), 431),
}
ACCEPTED = {
    "HTTP/1.0 without host": get(b"GET /health HTTP/1.0", b""),
    "empty host": get(b"GET /health HTTP/1.1", b"Host:\r\n"),
    "address as host": get(b"GET /health HTTP/1.1", b"Host: [::1]:80\r\n"),
    "absolute form": get(b"GET http://x/health HTTP/1.1"),
    "absolute form without path": get(b"GET http://x HTTP/1.1"),
    "query in absolute form": get(b"GET http://x?a=b HTTP/1.1"),
    "asterisk of OPTIONS": get(b"OPTIONS * HTTP/1.1"),
    "empty lines before": b"\r\n\r\n" + HEALTH,
    "chunks": chunked(CHUNKS, b"Transfer-Encoding: Chunked\r\n"),
    "extensions": chunked(b'f;a=b;c="d"' + CHUNKS[1:]),
    "small chunks": chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"),
    "100-continue in HTTP/1.0": post(b"Expect: 100-continue\r\n").replace(b"TP/1.1", b"TP/1.0"),
    "head within the limit": post(b"x: " + b"a" * 60_000 + b"\r\n"),
    "body of a GET": get(b"GET /health HTTP/1.1", b"Host: x\r\nContent-Length: 2\r\n") + b"{}",
    "empty codings": chunked(CHUNKS, b"Transfer-Encoding: , ,chunked\r\n"),
    "an empty coding before": chunked(CHUNKS, b"Transfer-Encoding: ,\r\n" + CHUNKED),
    "empty segments": post(path=b"///embed?a=//"),
}


OTHERS = ("another protocol", "a third protocol", "HTTP/2.0", "HTTP/9.9", "preface of HTTP/2")


@pytest.mark.parametrize("name", [*OTHERS, "unknown method"])
def test_a_refusal_is_the_same_behind_a_body_that_nobody_read(
    client: httpx.Client, name: str
) -> None:
    sent, status = REFUSED[name]
    with connected(client) as wire:
        wire.sendall(get(b"GET /health HTTP/1.1", b"Host: x\r\nContent-Length: 2\r\n"))
        assert read_answer(wire)[0] == 200  # before its body came
        wire.sendall(b"{}")
        time.sleep(0.02)
        wire.sendall(sent)
        assert read_answer(wire)[0] == status


@pytest.mark.parametrize("name", OTHERS)
def test_a_refusal_is_the_same_in_pieces(client: httpx.Client, name: str) -> None:
    sent, status = REFUSED[name]
    with connected(client) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(sent), 3):
            with contextlib.suppress(ConnectionError):  # refused before the end
                wire.sendall(sent[place : place + 3])
            time.sleep(0.002)
        assert read_answer(wire)[0] == status


def test_another_protocol_behind_a_request_is_not_answered(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(HEALTH + get(b"GET /livez RTSP/1.0") + HEALTH)
        assert read_to_end(wire).count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_must_be_refused_is_told_so_in_json_and_the_connection_closed(
    client: httpx.Client, sent: bytes, status: int
) -> None:
    with connected(client) as wire:
        wire.sendall(sent)
        answered, headers, body = read_answer(wire)
        assert (answered, headers[b"connection"]) == (status, b"close")
        assert json.loads(body).keys() == {"error", "error_type"}
        if status != 413:  # its client may finish sending
            assert wire.recv(1) == b""


def test_what_is_refused_before_it_is_known_is_counted(client: httpx.Client) -> None:
    before = sample(client, "osa_unreadable_requests_total")
    for sent, _ in (REFUSED["no host"], REFUSED["HTTP/2.0"]):
        with connected(client) as wire:
            wire.sendall(sent)
            read_answer(wire)
    assert client.get("/nothing").status_code == 404
    assert sample(client, "osa_unreadable_requests_total") == before + 2


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("pace", ["at once", "in pieces"])
def test_what_must_be_accepted_is_answered(client: httpx.Client, sent: bytes, pace: str) -> None:
    with connected(client) as wire:
        step = len(sent) if pace == "at once" else max(1, len(sent) // 9)
        for start in range(0, len(sent), step):
            wire.sendall(sent[start : start + step])
            time.sleep(0 if pace == "at once" else 0.002)
        assert read_answer(wire)[0] in (200, 204)


def test_who_is_refused_while_sending_sees_why(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(get(b"GET /health HTTP/9.9"))
        time.sleep(0.1)
        wire.sendall(b"a" * 100_000)  # would reset the connection, were it closed at once
        time.sleep(0.1)
        assert read_answer(wire)[0] == 505


def test_the_fields_of_a_trailer_are_not_those_of_the_head(client: httpx.Client) -> None:
    trailer = b"X-Request-Timeout-Ms: never\r\nContent-Type: text/plain\r\n\r\n"
    with connected(client) as wire:
        wire.sendall(chunked(CHUNKS[:-2] + trailer))
        assert read_answer(wire)[0] == 200


def test_requests_before_one_that_is_refused_are_answered(client: httpx.Client) -> None:
    with connected(client) as wire:
        wire.sendall(post() * 3 + b"\0\1\r\n\r\n")
        answers = read_to_end(wire)
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_pipelined_requests_by_the_thousand_are_all_answered(client: httpx.Client) -> None:
    """They are parsed as they are answered: see ``SLICE``."""
    with connected(client) as wire:
        wire.sendall(HEALTH * 3000)
        answer = len(read_answer_whole(wire))
        received = answer
        while received < 3000 * answer:
            piece = wire.recv(1 << 20)
            assert piece
            received += len(piece)
    assert received == 3000 * answer


def read_answer_whole(wire: socket.socket) -> bytes:
    """The first answer, every byte of it."""
    head = b""
    while not head.endswith(b'{"status":"ok"}'):
        head += wire.recv(1)
    return head
