"""The gate that every HTTP request passes: identity, size, concurrency, drain. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from osa.service.errors import (
    MalformedBodyError,
    OverloadedError,
    PayloadTooLargeError,
    ServiceError,
    UnavailableError,
    reply_for,
)
from osa.service.health import Health
from osa.service.metrics import Metrics
from osa.service.settings import ServerSettings

logger = logging.getLogger("osa.service.access")
MAX_REQUEST_ID = 128
LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client, which sends
first and reads later, gets to see the answer."""


class RequestGate:
    """Names, measures, limits and counts requests; refuses them while draining or overloaded."""

    def __init__(
        self, app: ASGIApp, health: Health, metrics: Metrics, settings: ServerSettings
    ) -> None:
        """Wrap ``app``."""
        self.app, self.health, self.metrics, self.settings = app, health, metrics, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get("x-request-id"))
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["started"], state["request_id"] = started, request_id
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                reply = MutableHeaders(scope=message)
                reply["x-request-id"] = request_id
                if self.health.draining:
                    reply["connection"] = "close"
            await send(message)

        inference = scope["method"] == "POST"
        try:
            self._admit(headers, inference)
            self.health.in_flight += inference
            try:
                body = await self._read_body(receive)
                if body is not None:
                    await self.app(scope, _replay(body, receive), send_named)
            finally:
                self.health.in_flight -= inference
        except ServiceError as error:
            self.metrics.count_failure(error.code)
            await self._refuse(error, scope["path"], receive, send_named)
        logger.info(
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_s": round(time.monotonic() - started, 6),
            },
        )

    def _admit(self, headers: Headers, inference: bool) -> None:
        if "transfer-encoding" in headers and "content-length" in headers:
            raise MalformedBodyError("send Content-Length or Transfer-Encoding, not both")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.settings.payload_limit:
            raise PayloadTooLargeError(self._too_large())
        if not inference:
            return
        if self.health.draining or not self.health.warm:
            raise UnavailableError(
                "the server is draining" if self.health.draining else "the model is warming up"
            )
        if self.health.in_flight >= self.settings.max_concurrent_requests:
            raise OverloadedError(
                f"{self.health.in_flight} requests are open, at most "
                f"{self.settings.max_concurrent_requests} are served at once",
                max(1, round(self.health.queue.backlog_s())),
            )

    async def _read_body(self, receive: Receive) -> bytes | None:
        """The whole body, read no further than the limit; None where the client went away."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.settings.payload_limit:
                raise PayloadTooLargeError(self._too_large())
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> str:
        return f"the body is over the limit of {self.settings.payload_limit} bytes"

    async def _refuse(self, error: ServiceError, path: str, receive: Receive, send: Send) -> None:
        """Answer without reading the body into memory, then let the client finish sending."""
        reply = reply_for(error, path)
        body = orjson.dumps(reply.body)
        headers = {**reply.headers, "content-type": "application/json", "connection": "close"}
        headers["content-length"] = str(len(body))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` once, then what the connection says."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


def _request_id(given: str | None) -> str:
    """The client's id where it is short and printable, else a new one."""
    if given and len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return uuid.uuid4().hex
