"""Admission of every call: identity, concurrency, drain; its errors, counters, trace and log line.

What ``RequestGate`` is to HTTP. gRPC itself keeps to the limit of a message's size.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import grpc
import grpc.aio

from osa.service.api.headers import request_id
from osa.service.api.job import Arrival
from osa.service.api.kserve.rpc.messages import SERVICE
from osa.service.api.kserve.rpc.statuses import advice, code_of
from osa.service.auth.api_keys import KeyFile, tenant_of
from osa.service.errors import (
    BackendError,
    ClientGoneError,
    DeadlineError,
    ServiceError,
    UnavailableError,
)
from osa.service.models.health import Health
from osa.service.observability.metrics import Metrics
from osa.service.observability.tracing import Tracing

logger = logging.getLogger("osa.service.access")
TOLERANCE_S = 0.1
"""A call that gRPC ends at most so long before its deadline was ended by that: client and server
have a clock each [s]."""
Context = grpc.aio.ServicerContext[bytes, bytes]


class Reply(NamedTuple):
    """A message, and what is said of it in the trailing metadata."""

    message: bytes
    metadata: Mapping[str, str] = {}


Method = Callable[[Arrival], Awaitable[Reply]]


class CallGate:
    """Admits or refuses calls, and counts them."""

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        keys: KeyFile | None,
        tracing: Tracing | None,
        request_timeout_s: float | None,
    ) -> None:
        """Bind the parts.

        Args:
            health: Numbers of open requests; whether the server drains.
            metrics: Counts failures.
            keys: Accepted API keys; None accepts everybody.
            tracing: Records every call.
            request_timeout_s: Deadline of calls that have none [s].
        """
        self._health, self._metrics, self._keys, self._tracing = health, metrics, keys, tracing
        self._request_timeout_s = request_timeout_s
        self._tasks: set[asyncio.Task[Any]] = set()

    def cut_off(self) -> None:
        """Answer every open call at once, with UNAVAILABLE; when the time of the drain is over."""
        for task in self._tasks:
            task.cancel()

    def handler(self, name: str, method: Method, probe: bool = False, work: bool = False) -> Any:
        """The handler of a unary method.

        Args:
            name: The method's name.
            method: Answers the bytes of a request.
            probe: Whether it needs no key.
            work: Whether it is inference, which is limited in number and refused while draining.
        """

        async def handle(raw: bytes, context: Context) -> bytes:
            return await self._handle(raw, context, name, method, probe, work)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _handle(
        self, raw: bytes, context: Context, name: str, method: Method, probe: bool, work: bool
    ) -> bytes:
        started, path = time.monotonic(), f"/{SERVICE}/{name}"
        metadata = _texts(context)
        identity = request_id(metadata.get("x-request-id"))
        span = self._tracing and self._tracing.begin("POST", path, identity, metadata)
        deadline = self._deadline(context, started)
        error: ServiceError | None = None
        reply = Reply(b"")
        task = asyncio.current_task()
        assert task is not None  # gRPC runs every call in one
        self._tasks.add(task)
        self._health.open_requests += 1
        try:
            key = None if probe or self._keys is None else self._keys.check(metadata)
            arrival = Arrival(raw, None, started, deadline, key, span)
            reply = await (self._work(arrival, method) if work else method(arrival))
        except ServiceError as failure:
            error = failure
        except asyncio.CancelledError:
            if self._health.draining and not self._health.drain_left_s():
                task.uncancel()
                error = UnavailableError("the server has stopped waiting for this request")
            else:
                late = time.monotonic() >= deadline - TOLERANCE_S
                error = (DeadlineError if late else ClientGoneError)("the call was cancelled")
                raise
        except Exception as failure:  # the boundary: no call goes without an answer
            error = BackendError("internal error")
            logger.error(
                "request failed", extra={"request_id": identity, "kind": type(failure).__name__}
            )
        finally:
            self._tasks.discard(task)
            self._health.open_requests -= 1
            code = grpc.StatusCode.OK if error is None else code_of(error)
            if error is not None:
                self._metrics.count_failure(error.code, error.model)
            if self._tracing is not None:
                self._tracing.end(span, 200 if error is None else error.status)
            logger.info(
                "request",
                extra={
                    "request_id": identity,
                    "method": "gRPC",
                    "path": path,
                    "status": code.name,
                    "duration_s": round(time.monotonic() - started, 6),
                },
            )
        if error is not None:
            await context.abort(code, str(error), _pairs(advice(error), identity))
        context.set_trailing_metadata(_pairs(reply.metadata, identity))
        return reply.message

    async def _work(self, arrival: Arrival, method: Method) -> Reply:
        tenant = tenant_of(arrival.key)
        self._health.admit(tenant)
        body = self._health.holding_body(len(arrival.raw), tenant)
        with self._health.slot(tenant), body:
            return await method(arrival)

    def _deadline(self, context: Context, started: float) -> float:
        """When the client stops waiting (monotonic clock) [s]."""
        left_s = context.time_remaining()
        left_s = self._request_timeout_s if left_s is None else left_s
        return math.inf if left_s is None else started + left_s


def _texts(context: Context) -> dict[str, str]:
    """Metadata of a call by name, in lower case; without binary entries."""
    return {
        name: value for name, value in context.invocation_metadata() or () if type(value) is str
    }


def _pairs(metadata: Mapping[str, str], identity: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", identity), *metadata.items())
