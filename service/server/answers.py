"""Answers on their way out: written piece by piece, as fast as the client takes them.

uvicorn hands a whole answer to the transport, which keeps what the client does not read for as long
as the connection lives, and takes the request for done. Here a request ends when the kernel has
taken its answer; a client must take ``LEAST_TAKEN`` bytes in every ``server.write_timeout_s``, or
the connection is aborted.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import select
import socket
import struct
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import orjson
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from osa.service.api.errors.dialects import reply_for
from osa.service.errors import ServiceError

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.models.health import Health

logger = logging.getLogger(__name__)
PIECE = 131_072
"""Bytes that are handed to the transport at once; they are sent at once, or waited for."""
JOINED = 16_384
"""A body of up to so many bytes goes out in one piece with its head."""
UNSENT_IN_KERNEL = 131_072
"""Bytes that the kernel takes beyond what the client's window admits."""
LEAST_TAKEN = 16_384
"""Bytes that a client takes in every ``server.write_timeout_s``, or the rest of its answer."""
PRESSED_S = 2.0
"""The same time while the answers of all clients exceed ``server.answer_memory`` [s]."""
BEGINNING = b"HTTP/1.1 "
"""Every answer begins so."""
RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: closing discards what is unsent."""
_OUTQ = getattr(termios, "TIOCOUTQ", None) if sys.platform == "linux" else None


def refusal(error: ServiceError) -> bytes:
    """A whole answer to a request that could not be read."""
    reply = reply_for(error, "/")
    body = orjson.dumps(reply.body)
    return (
        b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (STATUS_LINE[reply.status], len(body), body)
    )


class Outlet:
    """What one connection sends."""

    def __init__(self, transport: asyncio.Transport, flow: FlowControl, health: Health) -> None:
        """Have the transport keep nothing that it need not, and tell when it has sent all."""
        self.transport, self.flow, self.health = transport, flow, health
        self._timeout_s = health.settings.write_timeout_s
        self._written = self._credited = 0
        self._stalled_s = 0.0
        transport.set_write_buffer_limits(high=0)
        self.socket: socket.socket | None = transport.get_extra_info("socket")
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if self.socket is not None and option is not None:
            with contextlib.suppress(OSError):  # a hint to the kernel; no TCP, no hint
                self.socket.setsockopt(socket.IPPROTO_TCP, option, UNSENT_IN_KERNEL)

    async def put(self, data: bytes) -> None:
        """Send, and return when the kernel has taken all, or the connection is gone."""
        size = len(data)
        if size <= PIECE:
            self._write(data)
            if self.flow.write_paused:
                await self._wait(size)
            return
        view, left = memoryview(data), size
        self.health.answer_bytes += size
        try:
            for start in range(0, size, PIECE):
                piece = view[start : start + PIECE]
                self._write(piece)
                if self.flow.write_paused:
                    await self._wait()
                if self.transport.is_closing():
                    return
                left -= len(piece)
                self.health.answer_bytes -= len(piece)
        finally:
            self.health.answer_bytes -= left

    def is_reset(self) -> bool:
        """Whether the peer has refused what was sent to it."""
        if self.socket is None:
            return False
        poll = select.poll()
        poll.register(self.socket.fileno(), 0)
        return bool(poll.poll(0))  # an error or a hang-up

    def close(self) -> None:
        """Close, and do not wait for ever for what is unsent."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._timeout_s, self.transport.abort)

    def _write(self, data: bytes | memoryview) -> None:
        self.transport.write(data)
        self._written += len(data)

    async def _wait(self, counted: int = 0) -> None:
        """Wait until all is sent, while the client takes something.

        Args:
            counted: What to count as an answer that waits, for as long as it does [bytes].
        """
        tick_s = min(1.0, PRESSED_S / 4, self._timeout_s / 4)
        self.health.answer_bytes += counted
        try:
            while self.flow.write_paused and not self.transport.is_closing():
                began = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(tick_s):
                        await self.flow.drain()
                self._stalled_s += time.monotonic() - began
                taken = self._written - self._unsent()
                if taken - self._credited >= LEAST_TAKEN:
                    self._credited, self._stalled_s = taken, 0.0
                if self.flow.write_paused and self._stalled_s >= self._patience_s():
                    self._let_go()
        finally:
            self.health.answer_bytes -= counted

    def _patience_s(self) -> float:
        crowded = self.health.answer_bytes > self.health.settings.answer_memory
        return min(self._timeout_s, PRESSED_S) if crowded else self._timeout_s

    def _unsent(self) -> int:
        """Bytes that the client has not acknowledged, or where nobody knows, not been sent."""
        unsent = self.transport.get_write_buffer_size()
        if _OUTQ is not None and self.socket is not None:
            queued = array.array("i", [0])
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                fcntl.ioctl(self.socket.fileno(), _OUTQ, queued)
            unsent += queued[0]
        return unsent

    def abort(self) -> None:
        """Reset the connection, so that the kernel forgets what it has not sent."""
        if self.socket is not None and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _let_go(self) -> None:
        self.health.slow_readers += 1
        logger.warning(
            "a client that does not read was disconnected",
            extra={"unsent_bytes": self._unsent(), "waited_s": round(self._stalled_s, 1)},
        )
        self.abort()


class PacedCycle(RequestResponseCycle):
    """A request and its answer, which is complete when the kernel has taken it."""

    def __init__(self, outlet: Outlet, **parts: Any) -> None:
        """Take uvicorn's ``parts``, and the connection's outlet."""
        super().__init__(**parts)
        self._outlet = outlet
        self._head = b""
        self._begun = self._sending = False

    def begin(self) -> None:
        """Send what the answer, or a stream's next chunk, begins with; a peer that is gone refuses.

        The length of a chunk may begin with zeros. A part that is on its way tells as much.
        """
        if not (self._begun or self._sending or self.response_complete):
            self._begun = True
            if self.chunked_encoding or not self.response_started:
                self.transport.write(b"0" if self.response_started else BEGINNING)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer; returns when it is out, or the connection is gone."""
        if self._is_gone():
            return
        self._sending = True
        try:
            await self._send(message)
        finally:
            self._sending = False

    async def _send(self, message: ASGISendEvent) -> None:
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"an answer begins with its head, not with {message['type']}")
            self._head = self._make_head(message["status"], list(message.get("headers", [])))
            if self.chunked_encoding:  # a stream: its head tells that it has begun
                head, self._head = self._head, b""
                await self._outlet.put(head)
            return
        if message["type"] != "http.response.body" or self.response_complete:
            raise RuntimeError(f"{message['type']} does not fit here")
        body, more = message.get("body", b""), message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif not self.chunked_encoding:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than Content-Length")
        if self.chunked_encoding:
            await self._put_chunk(head, body, last=not more)
        elif head and len(body) <= JOINED:
            await self._outlet.put(head + body)
        else:
            if head:
                await self._outlet.put(head)
            if body:
                await self._outlet.put(body)
        if not more:
            self._complete()

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application; what it leaves unsent does not hold the connection for ever."""
        await super().run_asgi(app)
        if self.transport.is_closing():
            self._outlet.close()

    async def _put_chunk(self, head: bytes, body: bytes, last: bool) -> None:
        end = b"0\r\n\r\n" if last else b""
        if len(body) <= JOINED:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if head or chunk or end:
                await self._outlet.put(head + chunk + end)
            return
        await self._outlet.put(head + b"%x\r\n" % len(body))
        await self._outlet.put(body)
        await self._outlet.put(b"\r\n" + end)

    def _complete(self) -> None:
        if self._is_gone():
            return
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self._outlet.close()
        self.on_response()

    def _is_gone(self) -> bool:
        if self.transport.is_closing() and not self.disconnected:
            self.disconnected = True
            self.message_event.set()
        return self.disconnected

    def _make_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head as bytes; decides how the body is framed, and whether the connection lives on.

        Raises:
            RuntimeError: A header that cannot be.
        """
        self.response_started, self.waiting_for_100_continue = True, False
        content, closes = [STATUS_LINE[status]], False
        for name, value in [*self.default_headers, *headers]:
            if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
                raise RuntimeError("a header of the answer has characters that it must not have")
            name = name.lower()
            if name == b"content-length":
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, closes = False, True
            content += [name, b": ", value, b"\r\n"]
        if not self.keep_alive and not closes:
            content.append(b"connection: close\r\n")
        bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        if self.chunked_encoding is None and not bodiless:
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n")
        head = b"".join(content)
        return head[len(BEGINNING) :] if self._begun else head
