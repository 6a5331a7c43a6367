"""What hostile clients do, again and again; each act says how the server answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.serving.hostile import bodies
from benchmarks.serving.hostile.bodies import Body
from benchmarks.serving.hostile.raw import (
    SMALL_BUFFER,
    connected,
    drop_rest,
    encode,
    headers_of,
    status_of,
)

READERS, STREAMS, HALVES, IDLE, PIPELINED = 4, 24, 20, 200, 2000
PATIENCE_S = 120.0
"""How long a client waits for the server to act [s]."""
HELD_S = 45.0
"""How long a client that does not read or send stays at most [s]; longer than default limits."""
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
STREAM_END = b"\r\n0\r\n\r\n"
BAD_KEYS = "a." * 50_000 + "a = 1\n"


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


@dataclass(frozen=True)
class Act:
    """One kind of hostile client.

    Attributes:
        name: For the report.
        every_s: Pause between two acts [s].
        run: The act; returns what the server answered.
        wanted: Answers that a server which defends itself gives.
    """

    name: str
    every_s: float
    run: Callable[[Grounds], Awaitable[list[str]]]
    wanted: frozenset[str]


async def ask(grounds: Grounds, body: Body, holder: str = "stranger", method: str = "POST") -> str:
    """Send a request, read all of the answer, and return its status."""
    async with connected(grounds.port) as (reader, writer):
        writer.write(encode(Body(body.path, body.body, (*body.headers, ("Connection", "close"))),
                            grounds.keys.get(holder, ""), method))  # fmt: skip
        status = await status_of(reader)
        await drop_rest(reader)
        return status


async def _many(clients: int, client: Callable[[], Awaitable[str]]) -> list[str]:
    return list(await asyncio.gather(*(client() for _ in range(clients))))


def _sends(made: Sequence[Body], holder: str = "stranger") -> Callable[..., Awaitable[list[str]]]:
    """An act that sends these bodies, one after the other."""

    async def act(grounds: Grounds) -> list[str]:
        return [await ask(grounds, body, holder) for body in made]

    return act


def _never_reads(body: Body, clients: int) -> Callable[[Grounds], Awaitable[list[str]]]:
    """An act of clients that do not read their answers for long."""

    async def act(grounds: Grounds) -> list[str]:
        request = encode(body, grounds.keys["stranger"])
        whole = STREAM_END if body.headers else b"]"
        return await _many(clients, lambda: _read_late(grounds, request, whole))

    return act


async def _read_late(grounds: Grounds, request: bytes, whole: bytes) -> str:
    """Send, read nothing for ``HELD_S``, then all that there is.

    Returns:
        "held" where the answer ends as a whole one does, a status where it was refused, "let go"
        where the server has given up.
    """
    async with connected(grounds.port, SMALL_BUFFER) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request)
        await asyncio.sleep(HELD_S)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        try:
            status = await status_of(reader)
            end = b""
            while piece := await reader.read(65_536):
                end = (end + piece)[-len(whole) :]
                if end == whole:
                    break
        except ConnectionError:
            return "let go"
        if status not in ("200", "closed"):
            return status
        return "held" if end == whole else "let go"


async def slow_reader(grounds: Grounds) -> list[str]:
    """Reads a kilobyte a second."""
    async with connected(grounds.port, SMALL_BUFFER) as (reader, writer):
        writer.write(encode(bodies.unread_answer(stream=False), grounds.keys["stranger"]))
        for _ in range(int(HELD_S)):
            if not await reader.read(1024):
                return ["let go"]
            await asyncio.sleep(1.0)
    return ["held"]


async def half_bodies(grounds: Grounds) -> list[str]:
    """Send half of a body and wait."""
    body = Body("/embed", b'{"inputs": "' + b"a" * 500_000)

    async def client() -> str:
        async with connected(grounds.port) as (reader, writer):
            writer.write(encode(body, grounds.keys["stranger"], length=1_900_000))
            return await status_of(reader)

    return await _many(HALVES, client)


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

    return await _many(IDLE, client)


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


async def leavers(grounds: Grounds) -> list[str]:
    """Send much work and leave."""
    request = encode(bodies.many_texts(), grounds.keys["stranger"])

    async def client() -> str:
        async with connected(grounds.port) as (_, writer):
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(0.2)
        return "left"

    return await _many(READERS, client)


async def foreign_page(grounds: Grounds) -> list[str]:
    """A page of another site posts what a browser sends without asking first."""
    headers = (("Origin", "https://elsewhere.example"), ("Sec-Fetch-Site", "cross-site"))
    return [await ask(grounds, Body("/embed", b'{"inputs": "a"}', headers))]


async def guesser(grounds: Grounds) -> list[str]:
    """Guess what another key has sent; "told" where a header gives it away."""
    found = []
    for text in grounds.texts[:12]:
        body = Body("/embed", orjson.dumps({"inputs": text}))
        async with connected(grounds.port) as (reader, writer):
            writer.write(encode(body, grounds.keys["stranger"]))
            status = await status_of(reader)
            headers = await headers_of(reader)
        told = status == "200" and float(headers.get("x-inference-time", "1")) == 0
        found.append("told" if told else status)
    return found


async def load_models(grounds: Grounds) -> list[str]:
    """Ask for directories that are no models."""
    found = []
    for place, path in enumerate(grounds.directories):
        body = orjson.dumps({"name": f"stranger-{place}", "path": path})
        found.append(await ask(grounds, Body("/admin/models", body), "operator"))
    other = Body("/admin/models/osa%0a", b"")
    found.append(await ask(grounds, other, "operator", "DELETE"))
    return found


async def keys_file(grounds: Grounds) -> list[str]:
    """Replace the keys file by what cannot be read, then by what it was."""
    good = grounds.keys_file.read_text()
    found = []
    try:
        for wrong in (BAD_KEYS, None):
            _put(grounds.keys_file, wrong)
            await asyncio.sleep(3.0)
            found.append(await ask(grounds, Body("/embed", b'{"inputs": "still a key"}')))
    finally:
        _put(grounds.keys_file, good)
    return found


def _put(path: Path, text: str | None) -> None:
    """Replace a file, by a FIFO where there is no text."""
    beside = path.with_suffix(".new")
    if text is None:
        os.mkfifo(beside)
    else:
        beside.write_text(text)
    beside.replace(path)


def _wants(*answers: str) -> frozenset[str]:
    return frozenset(answers)


REFUSED = _wants("400", "413", "415", "422")
ACTS = (
    Act("wrong in every item", 3.0, _sends(bodies.wrong_bodies()), REFUSED),
    Act("answers of gigabytes", 5.0, _sends(bodies.long_answers()), REFUSED | {"200", "429"}),
    Act("110 000 spans", 10.0, _sends([bodies.many_spans()]), REFUSED | {"429"}),
    Act("more than the quota", 5.0, _sends([bodies.greedy_request()], "greedy"), REFUSED),
    Act("decompression bomb", 5.0, _sends([bodies.bomb()]), _wants("413", "415")),
    Act("not UTF-8", 5.0, _sends([bodies.not_text()]), _wants("400")),
    Act("streams not read", 5.0, _never_reads(bodies.unread_answer(True), STREAMS),
        _wants("let go", "429", "503")),
    Act("answers not read", 5.0, _never_reads(bodies.unread_answer(False), READERS),
        _wants("let go", "429", "503")),
    Act("answers read slowly", 5.0, slow_reader, _wants("let go", "held")),
    Act("half a body", 5.0, half_bodies, _wants("408", "429", "closed")),
    Act("half-closed", 2.0, half_closed, _wants("200", "429")),
    Act("half a head", 5.0, slow_heads, _wants("closed", "408", "held")),
    Act("a head of 200 kB", 5.0, long_head, _wants("431")),
    Act("malformed HTTP", 5.0, malformed, _wants("400", "501", "505")),
    Act("pipelined, not read", 5.0, pipelined, _wants("let go", "429", "503")),
    Act("leave at once", 5.0, leavers, _wants("left")),
    Act("a page of another site", 2.0, foreign_page, _wants("403")),
    Act("guess another's texts", 5.0, guesser, _wants("200", "429")),
    Act("load what is no model", 15.0, load_models, _wants("422", "404", "400")),
    Act("break the keys file", 20.0, keys_file, _wants("200", "429")),
)  # fmt: skip
