"""Clients whose connections misbehave: they do not read, do not send, or speak no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from benchmarks.serving.hostile import bodies
from benchmarks.serving.hostile.bodies import Body
from benchmarks.serving.hostile.raw import SMALL_BUFFER, connected, encode, status_of

HALVES, IDLE, PIPELINED = 20, 200, 2000
HELD_S = 45.0
"""How long a client that does not read or send stays at most [s]; longer than the server allows."""
SLOW_BYTES = 256
PAUSE_S = 1.0
"""What a slow reader takes at once [bytes] and when it goes on [s]: a quarter of the least that the
server waits for, 16 kB in its ``write_timeout_s``."""
MALFORMED = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no TLS here\r\n\r\n",
    b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
    b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /embed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
ARRAY_END = b"]]"
STREAM_END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Grounds:
    """Where the acts take place.

    Attributes:
        port: Of the server.
        keys: API keys by the name of their holder: ordinary, stranger, greedy, operator.
        keys_file: The server's.
        directories: Paths that are no models.
        texts: What ordinary clients send.
    """

    port: int
    keys: dict[str, str]
    keys_file: Path
    directories: Sequence[str]
    texts: Sequence[str]


async def many(clients: int, client: Callable[[], Awaitable[str]]) -> list[str]:
    """Run as many clients at once; returns what each was answered."""
    return list(await asyncio.gather(*(client() for _ in range(clients))))


def never_reads(body: Body, clients: int) -> Callable[[Grounds], Awaitable[list[str]]]:
    """An act of clients that do not read their answers for long."""

    async def act(grounds: Grounds) -> list[str]:
        request = encode(body, grounds.keys["stranger"])
        whole = STREAM_END if body.headers else ARRAY_END
        return await many(clients, lambda: _read_late(grounds, request, whole))

    return act


async def _read_late(grounds: Grounds, request: bytes, whole: bytes) -> str:
    """Send, read nothing for ``HELD_S``, then all that there is.

    Returns:
        "held" where the answer ends as a whole one does, a status where it was refused, "let go"
        where the server has given up.
    """
    async with connected(grounds.port, SMALL_BUFFER) as (reader, writer):
        transport = cast(asyncio.Transport, writer.transport)  # of a socket: reads too
        transport.pause_reading()
        writer.write(request)
        await asyncio.sleep(HELD_S)
        transport.resume_reading()
        try:
            status = await status_of(reader)
        except ConnectionError:
            return "let go"
        return await _end_of(reader, whole) if status in ("200", "closed") else status


async def _end_of(reader: asyncio.StreamReader, whole: bytes) -> str:
    """Read the rest: "held" where it ends as a whole answer does, "let go" where it does not."""
    end = b""
    try:
        while piece := await reader.read(65_536):
            end = (end + piece)[-len(whole) :]
            if end == whole:
                return "held"
    except ConnectionError:
        pass
    return "let go"


async def slow_reader(grounds: Grounds) -> list[str]:
    """Read ``SLOW_BYTES`` a second for ``HELD_S``, then all that there is.

    Returns:
        As ``_read_late``.
    """
    async with connected(grounds.port, SMALL_BUFFER) as (reader, writer):
        writer.write(encode(bodies.unread_answer(stream=False), grounds.keys["stranger"]))
        status = await status_of(reader)
        if status != "200":
            return [status]
        end_s = time.monotonic() + HELD_S
        while time.monotonic() < end_s:
            try:
                await reader.read(SLOW_BYTES)
            except ConnectionError:
                return ["let go"]
            await asyncio.sleep(PAUSE_S)
        return [await _end_of(reader, ARRAY_END)]


async def half_bodies(grounds: Grounds) -> list[str]:
    """Send half of a body and wait."""
    body = Body("/embed", b'{"inputs": "' + b"a" * 500_000)

    async def client() -> str:
        async with connected(grounds.port) as (reader, writer):
            writer.write(encode(body, grounds.keys["stranger"], length=1_900_000))
            return await status_of(reader)

    return await many(HALVES, client)


async def half_closed(grounds: Grounds) -> list[str]:
    """Close the sending half after the request."""
    async with connected(grounds.port) as (reader, writer):
        writer.write(encode(Body("/embed", b'{"inputs": "half closed"}'), grounds.keys["stranger"]))
        writer.write_eof()
        return [await status_of(reader)]


async def slow_heads(grounds: Grounds) -> list[str]:
    """Connections that begin a request and say no more."""

    async def client() -> str:
        async with connected(grounds.port) as (reader, writer):
            writer.write(b"POST /embed HTTP/1.1\r\nHost: a\r\n")
            try:
                async with asyncio.timeout(HELD_S):
                    return await status_of(reader)
            except TimeoutError:
                return "held"

    return await many(IDLE, client)


async def long_head(grounds: Grounds) -> list[str]:
    """A head of 200 kB in one write."""
    async with connected(grounds.port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n")
        return [await status_of(reader)]


async def malformed(grounds: Grounds) -> list[str]:
    """Requests that are no HTTP/1.1, or that two servers would read differently."""
    found = []
    for request in MALFORMED:
        async with connected(grounds.port) as (reader, writer):
            writer.write(request)
            found.append(await status_of(reader))
    return found


async def pipelined(grounds: Grounds) -> list[str]:
    """Thousands of requests at once whose answers are not read."""
    last = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    request = encode(Body("/info", b""), grounds.keys["stranger"], "GET")
    requests = request * PIPELINED + last
    return [await _read_late(grounds, requests, b'{"status":"ok"}')]
