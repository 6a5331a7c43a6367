"""Corpora of given vectors, and a server whose answers each test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.harness.corpus import Corpus
from benchmarks.serving.harness.launcher import free_port
from benchmarks.serving.peers.base import Launch


def unit_rows(count: int, width: int = 16) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def corpus_of(vectors: np.ndarray) -> Corpus:
    return Corpus([f"text {row}" for row in range(len(vectors))], [3] * len(vectors), vectors)


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


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def make_launch(models: Path) -> Launch:
    return Launch(Path(sys.executable), {"osa": models}, free_port())
