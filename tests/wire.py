"""HTTP/1.1 byte by byte, for tests of what clients' libraries never send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

BODY = b'{"inputs": "a"}'
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def post(headers: bytes = b"", body: bytes = BODY, path: bytes = b"/embed") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (path, headers, length, body)


@contextmanager
def connected(client: httpx.Client, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection to a client's server; a small buffer makes a client that reads nothing."""
    with socket.socket() as wire:
        if receive_buffer is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        wire.settimeout(20)
        wire.connect((client.base_url.host, client.base_url.port or 0))
        yield wire


def read_answer(wire: socket.socket) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of one answer, read no further."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = wire.recv(1)
        assert piece, head
        head += piece
    first, *lines = head.strip().split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
    length = int(headers.get(b"content-length", b"0"))
    body = b""
    while len(body) < length:
        piece = wire.recv(length - len(body))
        assert piece, body
        body += piece
    return int(first.split()[1]), headers, body


def read_to_end(wire: socket.socket) -> bytes:
    return b"".join(iter(lambda: wire.recv(65536), b""))
