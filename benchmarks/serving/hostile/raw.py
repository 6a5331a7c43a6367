"""Requests as bytes, sent by clients that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from benchmarks.serving.hostile.bodies import Body

SMALL_BUFFER = 4096
"""What the kernel may keep of an answer that is not read [bytes]."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def encode(body: Body, key: str = "", method: str = "POST", length: int | None = None) -> bytes:
    """A request as bytes.

    Args:
        body: What is sent, and where to.
        key: API key; none is sent without one.
        method: HTTP method.
        length: What Content-Length says; default is the truth.
    """
    lines = [
        f"{method} {body.path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body.body) if length is None else length}",
        *(f"{name}: {value}" for name, value in body.headers),
    ]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body.body


@contextlib.asynccontextmanager
async def connected(port: int, buffer: int | None = None) -> AsyncIterator[Streams]:
    """A connection to the server, aborted at the end.

    Args:
        port: Of the server.
        buffer: Size of the socket's receive buffer [bytes], and of what is read ahead.

    Raises:
        OSError: The server does not accept it.
    """
    raw = socket.socket()
    raw.setblocking(False)
    if buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=buffer or 2**16)
    except BaseException:
        raw.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> str:
    """The status of the answer; "closed" where the connection ends without one."""
    line = await reader.readline()
    return line.split()[1].decode("latin-1") if line.startswith(b"HTTP/1.") else "closed"


async def headers_of(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of the answer, once its first line has been read."""
    found = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        found[name.lower()] = value.strip()
    return found


async def drop_rest(reader: asyncio.StreamReader) -> None:
    """Read to the end of the connection."""
    while await reader.read(65_536):
        pass
