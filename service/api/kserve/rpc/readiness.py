"""gRPC's health service (``grpc.health.v1``), which follows the readiness of the process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from grpc import StatusCode
from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from osa.service.api.kserve.rpc.messages import SERVICE
from osa.service.models.health import Health

NAMES = ("", SERVICE)
"""What clients may ask for: the process, or the one service."""
LOOK_S = 0.25
"""Time between two looks at the readiness, for clients that watch it [s]."""


class ReadinessServicer(aio.HealthServicer):  # type: ignore[misc]  # it ships no types
    """SERVING while traffic is wanted. A check is exact; who watches is told within ``LOOK_S``."""

    def __init__(self, health: Health) -> None:
        """Follow ``health``."""
        super().__init__()
        self._health = health
        self._watchers: set[asyncio.Task[Any]] = set()
        self._following: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Begin to follow."""
        await self._update()
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Say NOT_SERVING for good, and end the calls of those who watch."""
        self._stopped = True
        await self.enter_graceful_shutdown()
        if self._following is not None:
            self._following.cancel()
        await asyncio.sleep(0)  # watchers write what has changed
        for task in self._watchers:
            task.cancel()

    async def Check(self, request: HealthCheckRequest, context: Any) -> Any:
        """Answer what holds at this moment."""
        await self._update()
        return await super().Check(request, context)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:
        """Send the status now and after every change."""
        task = asyncio.current_task()
        assert task is not None  # gRPC runs every call in one
        self._watchers.add(task)
        try:
            await super().Watch(request, context)
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            task.uncancel()
        finally:
            self._watchers.discard(task)
        await context.abort(StatusCode.UNAVAILABLE, "the server ends")

    async def _update(self) -> None:
        ready = self._health.ready_problem() is None
        status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        for name in NAMES:
            await self.set(name, status)

    async def _follow(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(LOOK_S)
                await self._update()
