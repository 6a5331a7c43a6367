"""What hostile clients do, again and again; each act says how the server answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.serving.hostile import bodies, connections
from benchmarks.serving.hostile.bodies import Body
from benchmarks.serving.hostile.connections import Grounds
from benchmarks.serving.hostile.raw import (
    connected,
    drop_rest,
    encode,
    headers_of,
    status_of,
)

READERS, STREAMS = 4, 24
PATIENCE_S = 120.0
"""How long a client waits for the server to act [s]."""
BAD_KEYS = "a." * 50_000 + "a = 1\n"


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
    """Send a request, read all of the answer, and return its status.

    Args:
        grounds: Where the server is.
        body: What is sent, and where to.
        holder: Whose key is sent.
        method: HTTP method.
    """
    async with connected(grounds.port) as (reader, writer):
        writer.write(encode(Body(body.path, body.body, (*body.headers, ("Connection", "close"))),
                            grounds.keys.get(holder, ""), method))  # fmt: skip
        status = await status_of(reader)
        await drop_rest(reader)
        return status


def _sends(made: Sequence[Body], holder: str = "stranger") -> Callable[..., Awaitable[list[str]]]:
    """An act that sends these bodies, one after the other."""

    async def act(grounds: Grounds) -> list[str]:
        return [await ask(grounds, body, holder) for body in made]

    return act


async def leavers(grounds: Grounds) -> list[str]:
    """Send much work and leave."""
    request = encode(bodies.many_texts(), grounds.keys["stranger"])

    async def client() -> str:
        async with connected(grounds.port) as (_, writer):
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(0.2)
        return "left"

    return await connections.many(READERS, client)


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
        body = Body(f"/admin/models/stranger-{place}", orjson.dumps({"path": path}))
        found.append(await ask(grounds, body, "operator"))
    other = Body("/admin/models/osa-default%0a", b"")
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
    Act("streams not read", 5.0, connections.never_reads(bodies.unread_answer(True), STREAMS),
        _wants("let go", "429", "503")),
    Act("answers not read", 5.0, connections.never_reads(bodies.unread_answer(False), READERS),
        _wants("let go", "429", "503")),
    Act("answers read slowly", 5.0, connections.slow_reader, _wants("let go", "429", "503")),
    Act("half a body", 5.0, connections.half_bodies, _wants("408", "429", "closed")),
    Act("half-closed", 2.0, connections.half_closed, _wants("200", "429")),
    Act("half a head", 5.0, connections.slow_heads, _wants("closed", "408")),
    Act("a head of 200 kB", 5.0, connections.long_head, _wants("431")),
    Act("malformed HTTP", 5.0, connections.malformed, _wants("400", "501", "505")),
    Act("pipelined, not read", 5.0, connections.pipelined, _wants("let go", "429", "503")),
    # those who leave see no answer: what they do is seen in the memory and speed of the server
    Act("leave at once", 5.0, leavers, _wants("left")),
    Act("a page of another site", 2.0, foreign_page, _wants("403")),
    Act("guess another's texts", 5.0, guesser, _wants("200", "429")),
    Act("load what is no model", 15.0, load_models, _wants("422", "404", "400")),
    Act("break the keys file", 20.0, keys_file, _wants("200", "429")),
)  # fmt: skip
