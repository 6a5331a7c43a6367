"""One HTTP request and its answer, as ASGI messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from osa.service.api.errors.dialects import reply_for
from osa.service.api.headers import request_id
from osa.service.auth.tenants import EVERYBODY
from osa.service.errors import PayloadTooLargeError

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.models.health import Health

QUIET_S = 0.5
"""A drain ends when nothing has been open for so long [s]."""
LINGER_S = 2.0
"""How long the rest of a refused body is read and discarded, so that a client that sends first and
reads later sees the answer [s]."""


class Exchange:
    """One request and its answer on the wire.

    Attributes:
        scope: Of the request.
        request_id: Its id.
        status: Of the answer; 0 before it.
        body_complete: Whether the whole body has come.
        held: What is counted of its body [bytes].
        tenant: Whose request it is; everybody's until its key is known.
        admin: Whether it is an administrator's, to administer.
        answer_headers: Further headers of whatever is answered.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, health: Health) -> None:
        """Bind the parts of an ASGI call.

        Args:
            scope: Of the request.
            receive: Its body's messages.
            send: Takes the answer's messages.
            health: Says whether the server drains.
        """
        self.scope, self._receive, self._send, self._health = scope, receive, send, health
        self.request_id = request_id(Headers(scope=scope).get("x-request-id"))
        self.status = self.held = 0
        self.body_complete = self.admin = False
        self.tenant = EVERYBODY
        self.answer_headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""

    async def send(self, message: Message) -> None:
        """Send, adding the request's id and, while draining, ``Connection: close``."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            if self.answer_headers:
                headers.raw.extend(self.answer_headers)
            if self._health.draining:
                headers["connection"] = "close"
        await self._send(message)

    async def read_some(self, limit: int) -> int | None:
        """Read what has come of the body; its size, or None if the client went away.

        Raises:
            PayloadTooLargeError: The body is over ``limit`` bytes.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        self.body_complete = not message.get("more_body")
        if len(self._body) + len(piece) > limit:
            raise PayloadTooLargeError(f"the body is over the limit of {limit} bytes")
        if self._body:
            self._body += piece
        else:  # the usual one: all of a small body at once
            self._body = piece if self.body_complete else bytearray(piece)
        return len(piece)

    def take_body(self) -> bytes:
        """The body, which is not kept here any longer."""
        body, self._body = self._body, b""
        return bytes(body)

    def drop_body(self) -> None:
        """Forget what has come of the body."""
        self._body = b""

    def replay(self, body: bytes) -> Receive:
        """A ``receive`` that returns ``body`` once, then the connection's own messages."""
        pending = [body]

        async def receive() -> Message:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            return await self._receive()

        return receive

    async def refuse(self, error: Exception, linger: bool = True) -> None:
        """Answer with an error unless an answer has begun, and let the client finish sending."""
        if self.status:
            return
        reply = reply_for(error, self.scope["path"])
        body = orjson.dumps(reply.body)
        headers = {**reply.headers, "content-type": "application/json"}
        headers["content-length"] = str(len(body))
        whole = self.body_complete or not _has_body(self.scope)
        if not whole:
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        if linger and not whole:
            try:
                async with asyncio.timeout(self._linger_s()):
                    while (await self._receive()).get("more_body"):
                        pass
            except TimeoutError:
                pass
        await self.send({"type": "http.response.body", "body": b""})

    def _linger_s(self) -> float:
        if not self._health.draining:
            return LINGER_S
        return min(LINGER_S, max(0.0, self._health.drain_left_s() - 2 * QUIET_S))


def _has_body(scope: Scope) -> bool:
    """Whether a request has a body that its head announces."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )
