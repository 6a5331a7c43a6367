"""HTTP/1.1 by llhttp: uvicorn's protocol class with limits and upgrade offers handled.

uvicorn's own class drops the body of a POST that offers another protocol (Java's client offers
HTTP/2 with each), does not limit heads in size or time, and answers malformed requests in plain
text at once, even before the answer to an earlier request (decision 20).
"""

from __future__ import annotations

import asyncio

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from osa.service.api.errors.dialects import reply_for
from osa.service.errors import HeadTooLargeError, MalformedBodyError, ServiceError

MAX_HEAD = 65_536
"""Most bytes that may arrive without completing a head or a piece of a body; a single read may
exceed it."""


class LlhttpProtocol(HttpToolsProtocol):
    """One connection."""

    _unfinished = 0
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Limit the time of the first head like that of later ones: ``keep_alive_s``."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Parse what came; called by the event loop."""
        self._unfinished += len(data)
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError:
            self._refuse(MalformedBodyError("the request is not valid HTTP"))
            return
        if self._unfinished > MAX_HEAD:
            self._refuse(HeadTooLargeError(f"the head is over the limit of {MAX_HEAD} bytes"))

    def _parse(self, data: bytes) -> bytes:
        """Feed the parser; returns what to feed next, where the client offered an upgrade.

        The offer may be ignored (RFC 9110, 7.8). llhttp takes what follows it for the other
        protocol, so a new parser gets the same head without the offer.

        Raises:
            httptools.HttpParserError: This is no HTTP, or asks for a tunnel.
        """
        try:
            self.parser.feed_data(data)
            return b""
        except httptools.HttpParserUpgrade as stop:
            rest = data[stop.args[0] :]
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        head = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*head, b"", rest])

    def _should_upgrade(self) -> bool:
        """Begin no request for a head with an offer: it comes again without."""
        return True

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._unfinished = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser; ends the time limit of the head."""
        self._unfinished = 0
        self._unset_keepalive_if_required()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._unfinished = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, error: ServiceError) -> None:
        """Answer with an error and close; if an earlier answer is due, only that one is sent."""
        running = self._running
        if running is not None and not running.response_complete:
            if not running.more_body:
                running.keep_alive = False
                self.flow.pause_reading()
                return
            if running.response_started:
                self.transport.close()
                return
        reply = reply_for(error, "/")
        body = orjson.dumps(reply.body)
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[reply.status], len(body), body)
        )
        self.transport.close()
