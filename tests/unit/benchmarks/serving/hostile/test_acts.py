"""How acts read what a server does, beside servers that do one thing each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.serving.hostile import acts, connections
from benchmarks.serving.hostile.bodies import Body
from benchmarks.serving.hostile.clients import _repeat
from benchmarks.serving.hostile.connections import Grounds
from benchmarks.serving.hostile.directories import broken_directories
from benchmarks.serving.hostile.raw import encode
from benchmarks.serving.hostile.report import surprises

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LARGE = 5_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
ANSWER = HEAD + b"[" * (LARGE - 2) + b"]]"


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Grounds]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Grounds(port, {"stranger": "secret"}, Path("keys"), (), ("a",))
    finally:
        server.close()


async def whole_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Waits for the reader as long as it takes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"[" * (LARGE - 2) + b"]]"
    )
    await writer.drain()
    writer.close()


async def lets_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives up on a reader that takes nothing."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"[" * (LARGE - 2) + b"]]"
    )
    await asyncio.sleep(0.1)
    writer.transport.abort()


async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    ("serve", "answer"), [(whole_answer, "held"), (lets_go, "let go"), (refuses, "429")]
)
def test_who_does_not_read_sees_whether_the_server_waited(
    serve: Serve, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HELD_S", 0.3)
    act = next(one for one in acts.ACTS if one.name == "answers not read")

    async def run() -> list[str]:
        async with serving(serve) as grounds:
            return await act.run(grounds)

    assert set(asyncio.run(run())) == {answer}


@pytest.mark.parametrize(
    ("serve", "answer"), [(whole_answer, "held"), (lets_go, "let go"), (refuses, "429")]
)
def test_who_reads_slowly_sees_whether_the_server_waited(
    serve: Serve, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HELD_S", 0.3)
    monkeypatch.setattr(connections, "PAUSE_S", 0.02)

    async def run() -> list[str]:
        async with serving(serve) as grounds:
            return await connections.slow_reader(grounds)

    assert asyncio.run(run()) == [answer]


@pytest.mark.parametrize(("closes", "answer"), [(True, "closed"), (False, "held")])
def test_half_a_head_sees_whether_the_server_waited(
    closes: bool, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HELD_S", 0.3)

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if closes:
            writer.close()
        await reader.read()
        writer.close()

    async def run() -> list[str]:
        async with serving(waits) as grounds:
            return await connections.slow_heads(grounds)

    assert set(asyncio.run(run())) == {answer}


def test_no_act_wants_to_be_waited_for_or_to_fail() -> None:
    for act in acts.ACTS:
        assert not act.wanted & {"held", "no answer", "told", "500", "ConnectionResetError"}


def test_an_act_that_crashes_is_counted_by_its_exception() -> None:
    async def crashes(grounds: Grounds) -> list[str]:
        raise IndexError

    async def run() -> Counter[str]:
        counts = Counter[str]()
        act = acts.Act("half-closed", 0.01, crashes, frozenset({"200"}))
        made = Grounds(1, {}, Path("keys"), (), ())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await _repeat(act, made, counts)
        return counts

    counts = asyncio.run(run())
    assert counts["IndexError"] > 1
    assert "half-closed" in surprises({"half-closed": dict(counts)})


def test_a_guess_is_told_by_a_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tells(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Inference-Time: 0\r\n\r\n")
        writer.close()

    async def run() -> list[str]:
        async with serving(tells) as grounds:
            return await acts.guesser(grounds)

    assert asyncio.run(run()) == ["told"]


def test_requests_say_what_they_are_told_to() -> None:
    sent = encode(Body("/embed", b"{}", (("Accept", "a/b"),)), key="k", length=9)
    assert sent.startswith(b"POST /embed HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Content-Length: 9\r\n" in sent
    assert b"Authorization: Bearer k\r\n" in sent
    assert sent.endswith(b"\r\n\r\n{}")


def test_the_keys_file_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("good")
    kinds = []

    async def looks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kinds.append("fifo" if file.is_fifo() else "file")
        await refuses(reader, writer)

    async def no_pause(seconds: float) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", no_pause)

    async def run() -> list[str]:
        async with serving(looks) as made:
            return await acts.keys_file(Grounds(made.port, {}, file, (), ()))

    assert asyncio.run(run()) == ["429", "429"]
    assert kinds == ["file", "fifo"]
    assert file.read_text() == "good"


def test_broken_directories_are_broken(tmp_path: Path, tiny_checkpoint: Path) -> None:
    paths = [Path(path) for path in broken_directories(tmp_path / "broken", tiny_checkpoint)]
    assert [path.is_dir() for path in paths[:4]] == [True] * 4
    assert len(str(paths[4])) > 5000
    assert (paths[0] / "config.json").is_fifo()
    assert os.readlink(paths[1] / "config.json") == "/dev/zero"
