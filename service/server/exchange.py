"""One HTTP request and its answer, as ASGI messages."""

from __future__ import annotations

import asyncio

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from osa.service.api.errors.dialects import reply_for
from osa.service.api.headers import request_id
from osa.service.errors import PayloadTooLargeError
from osa.service.models.health import Health

LINGER_S = 2.0
"""How long the rest of a refused body is read and discarded, so that a client that sends first and
reads later sees the answer [s]."""


class Exchange:
    """One request and its answer on the wire."""

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
        self.status = 0
        self._body_complete = False

    async def send(self, message: Message) -> None:
        """Send, adding the request's id and, while draining, ``Connection: close``."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            if self._health.draining:
                headers["connection"] = "close"
        await self._send(message)

    async def read_body(self, limit: int) -> bytes | None:
        """The whole body of at most ``limit`` bytes; None if the client went away."""
        body = bytearray()
        while not self._body_complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            self._body_complete = not message.get("more_body")
            if len(body) > limit:
                raise PayloadTooLargeError(f"the body is over the limit of {limit} bytes")
        return bytes(body)

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
        if not self._body_complete:
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        if linger and not self._body_complete:
            try:
                async with asyncio.timeout(LINGER_S):
                    while (await self._receive()).get("more_body"):
                        pass
            except TimeoutError:
                pass
        await self.send({"type": "http.response.body", "body": b""})
