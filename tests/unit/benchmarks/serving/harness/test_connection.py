"""The client connection, against a server whose answers each test chooses."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.serving.harness import connection as connections
from benchmarks.serving.harness.connection import Connection, ProtocolError, Request
from tests.unit.benchmarks.serving.harness.conftest import answer, run, serving


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
