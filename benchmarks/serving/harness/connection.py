"""A minimal HTTP/1.1 client connection with keep-alive.

The load generator shares the machine with the measured server, so its own CPU time must be small.
It also has to disconnect at a chosen time within a request, which clients with connection pools do
not allow.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

IDLE_S = 2.0
"""Longest idle time after which a connection is used again [s]. Servers close idle connections
(uvicorn after 5 s, ours after 75 s), and a request sent at that moment would be lost."""


class ProtocolError(Exception):
    """The answer is not HTTP/1.1, or has no framing that this client supports."""


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes:
        path: Path on the server.
        body: Bytes of the body.
        headers: Headers other than Host, Content-Type and Content-Length.
        method: HTTP method.
    """

    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"

    def encode(self) -> bytes:
        """The request as bytes."""
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection to one server on this machine, opened when needed."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Set the address; nothing is opened yet."""
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def send(self, request: Request) -> Reply:
        """Send a request and read its answer.

        If it fails or the caller is cancelled, the connection is closed at once, so that the
        server sees its client disconnect.

        Raises:
            OSError: The server cannot be reached, or closed before its answer was complete.
            ProtocolError: The answer is not HTTP/1.1.
        """
        if self._is_stale():
            self.close()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request.encode())
            reply = await _read(reader)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionResetError(
                "the server closed before its answer was complete"
            ) from error
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    def _is_stale(self) -> bool:
        """Whether the server has closed the connection, or may soon."""
        if self._streams is None:
            return False
        return self._streams[0].at_eof() or time.monotonic() - self._used > IDLE_S

    def close(self) -> None:
        """Disconnect at once, even within a request."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ProtocolError(f"the answer begins with {first[:80]!r}")
    headers = {
        name.strip().lower(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        length = headers.get("content-length", "")
        if not length.isdigit():
            raise ProtocolError("the answer has neither Content-Length nor chunks")
        body = await reader.readexactly(int(length))
    return Reply(int(rest[:3]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass  # trailers
    return bytes(body)
