"""The load generator against a small server that does what each test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import connection as connections
from benchmarks.serving.connection import Connection, ProtocolError, Request
from benchmarks.serving.load import (
    Target,
    Verdict,
    abandon,
    arrivals,
    closed_loop,
    open_loop,
)

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: int = 200, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d OK" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass
class Listener:
    """A server on a real socket.

    Attributes:
        port: Where it listens.
        ended: Connections whose client has left.
    """

    port: int = 0
    ended: int = 0


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[Listener]:
    """A server that hands every request's body to ``handle``."""
    listener, talks = Listener(), set[asyncio.Task[Any]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            talks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            try:
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                    await handle(await reader.readexactly(length), writer)
            finally:
                listener.ended += 1
                writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)


def target(port: int) -> Target:
    """Sends a text's place; right is the same place back."""
    return Target(
        port,
        lambda text: Request("/echo", str(text).encode()),
        lambda text, body: body == str(text).encode(),
    )


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


@pytest.mark.parametrize(
    "sent",
    [
        answer(b"hello"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nA: b\r\n\r\n",
    ],
    ids=["length", "chunks", "trailer"],
)
def test_a_connection_reads_both_framings_and_is_kept(sent: bytes) -> None:
    async def test() -> None:
        seen: set[int] = set()

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            seen.add(id(writer))
            writer.write(sent)

        async with serving(handle) as server:
            connection = Connection(server.port)
            for _ in range(2):
                reply = await connection.send(Request("/", b"x"))
                assert (reply.status, reply.body) == (200, b"hello")
            connection.close()
        assert len(seen) == 1

    run(test())


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"SMTP ready\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ConnectionResetError),
    ],
)
def test_a_broken_answer_is_an_error(sent: bytes, error: type[Exception]) -> None:
    async def test() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(sent)
            writer.close()

        async with serving(handle) as server:
            with pytest.raises(error):
                await Connection(server.port).send(Request("/", b"x"))

    run(test())


def test_a_connection_that_the_server_closed_is_opened_anew() -> None:
    async def scenario() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(body))
            await writer.drain()
            writer.close()  # not announced: as after an idle time

        async with serving(handle) as server:
            connection = Connection(server.port)
            for body in (b"one", b"two"):
                assert (await connection.send(Request("/", body))).body == body
                await asyncio.sleep(0.1)
            connection.close()
            assert server.ended == 2

    run(scenario())


@pytest.mark.parametrize(("idle_s", "opened"), [(60.0, 1), (0.0, 2)])
def test_a_connection_that_lay_idle_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, opened: int
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", idle_s)

    async def scenario() -> None:
        peers = set()

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            peers.add(writer.get_extra_info("peername"))
            writer.write(answer(body))

        async with serving(handle) as server:
            connection = Connection(server.port)
            for _ in range(2):
                await connection.send(Request("/", b"x"))
                await asyncio.sleep(0.01)
            connection.close()
        assert len(peers) == opened

    run(scenario())


def test_every_way_to_end_has_its_verdict() -> None:
    verdicts: list[Verdict] = ["right", "wrong", "refused", "failed", "lost", "late"]

    async def test() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            replies = {
                "right": answer(body),
                "wrong": answer(b"another text's"),
                "refused": answer(b"", 429, b"Retry-After: 1"),
                "failed": answer(b"", 500),
            }
            match verdicts[int(body)]:
                case "lost":
                    writer.close()
                case "late":
                    pass
                case verdict:
                    writer.write(replies[verdict])

        async with serving(handle) as server:
            texts = range(len(verdicts))
            load = await open_loop(target(server.port), texts, [0.0] * len(verdicts), 0.5)
        found = {outcome.text: outcome for outcome in load.outcomes}
        assert [found[text].verdict for text in texts] == verdicts
        assert found[2].status == 429
        assert found[2].retry_after
        assert not found[3].retry_after
        assert len(load.latencies_s()) == 1

    run(test())


def test_an_open_loop_does_not_wait_for_answers() -> None:
    async def test() -> None:
        waiting, all_there = 0, asyncio.Event()

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 5:
                all_there.set()
            await all_there.wait()  # nobody is answered before the last has come
            writer.write(answer(body))

        async with serving(handle) as server:
            load = await open_loop(target(server.port), range(5), [0.0, 0.01, 0.02, 0.03, 0.04], 20)
        assert load.count("right") == 5

    run(test())


def test_a_closed_loop_never_has_more_open_than_clients() -> None:
    async def test() -> None:
        open_now = most = 0

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.005)
            open_now -= 1
            writer.write(answer(body))

        async with serving(handle) as server:
            load = await closed_loop(target(server.port), range(7), 3, 0.2)
        assert most == 3
        assert {outcome.text for outcome in load.outcomes} == set(range(7))
        assert load.count("right") == len(load.outcomes)

    run(test())


def test_abandoning_closes_what_is_open_and_counts_what_was_answered() -> None:
    async def test() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            if int(body) < 2:
                writer.write(answer(body))

        async with serving(handle) as server:
            assert await abandon(target(server.port), range(6), 0.3) == 2
            while server.ended < 6:
                await asyncio.sleep(0.005)

    run(test())


def test_arrivals_are_a_seeded_poisson_process() -> None:
    times = arrivals(50.0, 200.0, seed=3)
    gaps = np.diff(times)
    assert times == arrivals(50.0, 200.0, seed=3)
    assert times != arrivals(50.0, 200.0, seed=4)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 200
    assert abs(len(times) - 10_000) < 400  # four standard deviations
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05  # exponential: as wide as its mean
