"""Admission of every HTTP request: identity, size, concurrency, drain. ASGI middleware.

Every request is answered in the dialect of its path, also after an unexpected error and when the
drain ends before its answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from osa.service.auth.access import is_open
from osa.service.auth.api_keys import KEY_SCOPE, ApiKey, KeyFile, tenant_of
from osa.service.errors import (
    MalformedBodyError,
    PayloadTooLargeError,
    ServiceError,
    UnavailableError,
    UnknownPathError,
)
from osa.service.models.health import Health
from osa.service.observability.metrics import Metrics
from osa.service.observability.tracing import SCOPE_KEY, Tracing
from osa.service.server.bodies import ADMIN_LIMIT, Arrivals
from osa.service.server.codings import coding_of, decode
from osa.service.server.exchange import Exchange
from osa.service.server.origins import Origins, is_preflight
from osa.service.server_settings import ServerSettings

logger = logging.getLogger("osa.service.access")
Endpoint = Callable[[Request], Awaitable[Response]]
MAX_LOGGED_PATH = 256
DECODED_AT_ONCE = 4
"""Bodies that are decompressed at the same time: so many are not counted yet."""
SERVER_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"


class RequestGate:
    """Admits or refuses requests by identity, size, concurrency and drain, and counts them."""

    def __init__(
        self,
        app: ASGIApp,
        health: Health,
        metrics: Metrics,
        settings: ServerSettings,
        arrivals: Arrivals,
        keys: KeyFile | None = None,
        tracing: Tracing | None = None,
        direct: Mapping[str, Endpoint] | None = None,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: The application.
            health: Numbers of open requests; whether the server drains.
            metrics: Counts failures.
            settings: Limits.
            arrivals: Bodies on their way.
            keys: Accepted API keys; None accepts everybody.
            tracing: Records every request.
            direct: POST endpoints by path that are called without the layers of ``app``.
        """
        self.tracing, self.direct = tracing, direct or {}
        self.app, self.health, self.metrics, self.settings = app, health, metrics, settings
        self.keys, self.arrivals, self.origins = keys, arrivals, Origins(settings)
        self._decoders = asyncio.Semaphore(DECODED_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        exchange = Exchange(scope, receive, send, self.health)
        self.health.open_requests += 1
        if self.tracing is not None:
            path = scope["path"][:MAX_LOGGED_PATH]
            scope[SCOPE_KEY] = self.tracing.begin(
                scope["method"], path, exchange.request_id, Headers(scope=scope)
            )
        try:
            await self._handle(exchange)
        except ServiceError as error:
            self.metrics.count_failure(error.code, error.model)
            exchange.drop_body()
            self.arrivals.release(exchange)
            await exchange.refuse(error)
        except asyncio.CancelledError:
            cut_off = UnavailableError("the server has stopped waiting for this request")
            self.metrics.count_failure(cut_off.code)
            await exchange.refuse(cut_off, linger=False)
        except Exception as error:  # the HTTP boundary: no request goes without an answer
            self.metrics.count_failure("backend")
            logger.error(
                "request failed",
                extra={"request_id": exchange.request_id, "kind": type(error).__name__},
            )
            await exchange.refuse(error)
        finally:
            self.health.open_requests -= 1
            self.arrivals.release(exchange)
            if self.tracing is not None:
                self.tracing.end(scope[SCOPE_KEY], exchange.status)
            logger.info(
                "request",
                extra={
                    "request_id": exchange.request_id,
                    "method": scope["method"],
                    "path": scope["path"][:MAX_LOGGED_PATH],
                    "status": exchange.status,
                    "duration_s": round(time.monotonic() - started, 6),
                },
            )

    async def _handle(self, exchange: Exchange) -> None:
        scope = exchange.scope
        method, found = scope["method"], joined(scope["headers"])
        self.origins.check_host(found)
        if is_preflight(method, found):
            exchange.answer_headers = self.origins.preflight(found)
            await Response(status_code=204)(scope, exchange.replay(b""), exchange.send)
            return
        exchange.answer_headers = self.origins.judge(method, found)
        if b"transfer-encoding" in found and b"content-length" in found:
            raise MalformedBodyError("send Content-Length or Transfer-Encoding, not both")
        length = found.get(b"content-length", b"0")
        limit = self.settings.payload_limit
        if length.isdigit() and int(length) > limit:
            raise PayloadTooLargeError(f"the body is over the limit of {limit} bytes")
        if self.keys is not None and not is_open(method, scope["path"]):
            scope[KEY_SCOPE] = self.keys.check(Headers(scope=scope))
        if not scope["path"].isprintable():
            raise UnknownPathError("Not Found")
        if method == "OPTIONS" and scope["path"] == "*":  # of the server itself
            answer = Response(status_code=204, headers={"allow": SERVER_METHODS})
            await answer(scope, exchange.replay(b""), exchange.send)
            return
        if method == "HEAD":  # answered as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        if method != "POST":
            await self.app(scope, exchange.replay(b""), exchange.send)
            return
        coding = coding_of(found.get(b"content-encoding"))
        admin = scope["path"].startswith("/admin/")  # must be heard when it is most needed
        key: ApiKey | None = scope.get(KEY_SCOPE)
        exchange.tenant = tenant = tenant_of(key)
        if admin and key is not None and key.admin:
            exchange.admin, limit = True, min(limit, ADMIN_LIMIT)
        if not admin:
            self.health.admit(tenant)
        body = await self.arrivals.read(exchange, limit)
        if body is None:
            return
        if coding is not None:
            body = await self._decode(exchange, body, coding, limit)
        if admin:
            await self.app(scope, exchange.replay(body), exchange.send)
            return
        self.health.admit(tenant)
        with self.health.slot(tenant):
            receive, endpoint = exchange.replay(body), self.direct.get(scope["path"])
            if endpoint is None:
                await self.app(scope, receive, exchange.send)
            else:
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, exchange.send)

    async def _decode(self, exchange: Exchange, body: bytes, coding: str, limit: int) -> bytes:
        """Decompress a body, and say no more that it is compressed.

        Args:
            exchange: The request.
            body: As it came.
            coding: Of the body.
            limit: Most bytes of the result.

        Raises:
            OverloadedError: There is no room for the result.
        """
        async with self._decoders:  # what is decompressed is counted before there is more
            plain = await asyncio.to_thread(decode, body, coding, limit)
            self.arrivals.hold(exchange, len(plain) - len(body))
        headers = exchange.scope["headers"]
        headers[:] = [header for header in headers if header[0] != b"content-encoding"]
        return plain


def joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; what stands in several lines is one list (RFC 9110, 5.3).

    Raises:
        MalformedBodyError: Several origins, of which a browser sends one.
    """
    found = dict(headers)
    if len(found) == len(headers):
        return found
    found = {}
    for name, value in headers:
        if name == b"origin" and name in found:
            raise MalformedBodyError("send one Origin header, not several")
        found[name] = found[name] + b", " + value if name in found else value
    return found
