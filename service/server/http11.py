"""HTTP/1.1 by llhttp: uvicorn's protocol class with limits, half-closed clients and upgrade offers.

uvicorn's own class drops the body of a POST that offers another protocol (Java's client offers
HTTP/2 with each), does not limit heads in size or time, parses as many pipelined requests as come
in one read, closes when the client has closed its side, and answers malformed requests in plain
text at once, even before the answer to an earlier request (decisions 20 and 28).
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from osa.service.errors import ServiceError
from osa.service.server.answers import PacedCycle, refusal
from osa.service.server.exchange import LINGER_S
from osa.service.server.heads import (
    MAX_HEAD,
    check_head,
    check_protocol,
    check_size,
    head_too_large,
    read_target,
    refusal_of,
)
from osa.service.server.outlets import Departures, Outlet

SLICE = 8192
"""Bytes that are parsed at once: what follows waits while a request waits for the one before."""
FRAMING_SHARE = 8
"""A chunked body may have so many bytes of framing for each of its own, beyond ``MAX_HEAD``."""
LINGER_BYTES = 4 * MAX_HEAD
PROBE_S, FIRST_LOOK_S = 0.05, 0.02
"""When a client that closed its side is asked whether it is still there, by the beginning of its
answer; time to the first look whether it has gone [s]."""


class _Flow(FlowControl):
    """Reads nothing while bytes that have come wait to be parsed."""

    held = b""

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class LlhttpProtocol(HttpToolsProtocol):
    """One connection."""

    flow: _Flow
    _unfinished = _framing = _lingered = 0
    _head = b""
    _in_head = _ending = _deaf = _refused = False
    _running: PacedCycle | None = None
    _outlet: Outlet

    def __init__(self, *, departures: Departures, **parts: Any) -> None:
        """Take uvicorn's ``parts``, and the answers of all connections."""
        super().__init__(**parts)
        self._departures = departures
        self._root_path = departures.health.settings.root_path.encode()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Limit the time of the first head like that of later ones: ``keep_alive_s``."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._outlet = Outlet(transport, self.flow, self._departures)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request of the connection, also those that wait for another."""
        self.flow.held = self._head = b""
        self._unset_keepalive_if_required()
        for cycle in (self._running, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; called by the event loop."""
        if self._refused:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.transport.close()
        elif self._deaf:
            pass
        elif self.flow.held:  # read before reading was paused
            self.flow.held += data
        elif len(data) <= SLICE and not self.pipeline:
            self._consume(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called when the client has closed its side: True while answers are due to it."""
        if self._refused or not self._leave_due():
            return False
        self.loop.call_later(PROBE_S, self._probe)
        return True

    def _feed(self, data: bytes) -> None:
        """Parse slice by slice, until a request waits for the one before; the rest is held."""
        for start in range(0, len(data), SLICE):
            if self.pipeline:
                self.flow.held = data[start:]
                self.flow.pause_reading()
                return
            if self._deaf or self.transport.is_closing():
                return
            self._consume(data[start : start + SLICE])

    def _consume(self, data: bytes) -> None:
        self._unfinished += len(data)
        self._framing += len(data)
        self._head += data
        rest = data
        try:
            while rest:
                rest = self._parse(rest)
        except httptools.HttpParserError as error:
            self._refuse(refusal_of(error, self._head))
            return
        if not self._in_head:
            self._head = b""
        if self._unfinished > MAX_HEAD or self._framing > MAX_HEAD:
            self._refuse(self._oversize())

    def _oversize(self) -> ServiceError:
        try:
            if self._in_head:
                check_size(self.url, [])
        except ServiceError as error:
            return error
        return head_too_large()

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
        self._unfinished = self._framing = 0
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser; a trailer's fields are not those of the head (RFC 9110, 6.5)."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser: begin the request, or have it wait for the one before.

        Raises:
            ServiceError: It must be refused; the parser's error has it in its context.
        """
        self._unfinished = self._framing = 0
        self._in_head = False
        self._unset_keepalive_if_required()
        if self.parser.should_upgrade():
            return
        check_size(self.url, self.headers)
        check_protocol(self._head, self.parser.get_method(), self.url)
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        expects = check_head(version, self.headers)
        target = read_target(method, self.url, self._root_path, self.headers)
        scope = self.scope
        scope["http_version"], scope["method"] = version, method
        scope["path"], scope["raw_path"], scope["query_string"] = target
        before, self.cycle = self.cycle, PacedCycle(
            self._outlet,
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )  # fmt: skip
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the body."""
        self._unfinished = 0
        self._framing = max(0, self._framing - (1 + FRAMING_SHARE) * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._unfinished = self._framing = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer is out: the next request begins, or what was held is read."""
        super().on_response_complete()
        if self.flow.held:
            self.loop.call_soon(self._read_held)
        elif self._ending and (self._running is None or self._running.response_complete):
            self._outlet.close()

    def _read_held(self) -> None:
        data, self.flow.held = self.flow.held, b""
        if self._deaf or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._feed(data)
        if self._ending and not self.flow.held and not self._leave_due():
            self._outlet.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, PacedCycle)  # made above
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _leave_due(self) -> bool:
        """Drop a request that is incomplete, and have the connection end after those that are due.

        Returns:
            Whether any is: complete and unanswered, or not parsed yet.
        """
        running, held = self._running, bool(self.flow.held)
        if running is not None and self.pipeline and self.cycle.more_body and not held:
            self.pipeline.popleft()  # those before it are complete
            self.cycle = self.pipeline[0][0] if self.pipeline else running
        due = running is not None and not (running.response_complete or running.more_body)
        self._ending = self._ending or due or held
        if due and running is not None and not held:
            last = self.pipeline[0][0] if self.pipeline else running
            last.keep_alive = False
        return due or held

    def _probe(self) -> None:
        """Begin to answer a client that closed its side: one that has gone resets the connection.

        Closing one side and closing all look the same until something is sent.
        """
        if self._running is not None and not self.transport.is_closing():
            self._running.begin()
            self._outlet.look(FIRST_LOOK_S)

    def _refuse(self, error: ServiceError) -> None:
        """Answer with an error and close; if earlier answers are due, only those are sent."""
        self.flow.held, self._deaf = b"", True
        if self._leave_due():
            self.flow.pause_reading()
            return
        self._refused = True
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self._outlet.close()
                return
        self.transport.write(refusal(error, self._departures.health))
        self.transport.write_eof()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_S, self._outlet.close)
