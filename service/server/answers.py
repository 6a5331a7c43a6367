"""Answers on their way out: a request ends when the kernel has taken its answer.

uvicorn hands a whole answer to the transport, which keeps what the client does not read for as long
as the connection lives, and takes the request for done.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from osa.service.api.errors.dialects import reply_for
from osa.service.errors import ServiceError
from osa.service.server.outlets import Outlet

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.models.health import Health

logger = logging.getLogger(__name__)
JOINED = 16_384
"""A body of up to so many bytes goes out in one piece with its head."""
BEGINNING = b"HTTP/1.1 "
"""Every answer begins so."""


def refusal(error: ServiceError, health: Health) -> bytes:
    """A whole answer to a request that could not be read, which is counted and logged."""
    reply = reply_for(error, "/")
    body = orjson.dumps(reply.body)
    health.unreadable_requests += 1
    logger.info("unreadable request", extra={"status": reply.status})
    return (
        b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (STATUS_LINE[reply.status], len(body), body)
    )


class PacedCycle(RequestResponseCycle):
    """A request and its answer, which is complete when the kernel has taken it."""

    def __init__(self, outlet: Outlet, **parts: Any) -> None:
        """Take uvicorn's ``parts``, and the connection's outlet."""
        super().__init__(**parts)
        self._outlet = outlet
        self._head = b""
        self._begun = self._sending = self._unframed = False

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
            if self.chunked_encoding or self._unframed:  # a stream: its head tells that it began
                head, self._head = self._head, b""
                await self._outlet.put(head)
            return
        if message["type"] != "http.response.body" or self.response_complete:
            raise RuntimeError(f"{message['type']} does not fit here")
        body, more = message.get("body", b""), message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif not self.chunked_encoding and not self._unframed:
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
        if self._unframed and not self.response_complete:
            self._outlet.abort()  # a mere end would be that of a whole answer
        elif self.transport.is_closing():
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
        if self.chunked_encoding is None and not bodiless and self.scope["http_version"] == "1.0":
            self._unframed = True  # its body ends with the connection (RFC 9112, 6.1 and 6.3)
        elif self.chunked_encoding is None and not bodiless:
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n")
        head = b"".join(content)
        return head[len(BEGINNING) :] if self._begun else head
