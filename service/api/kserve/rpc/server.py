"""The gRPC server: in the process and event loop of the HTTP server, with its limits and drain."""

from __future__ import annotations

import logging

import grpc.aio
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from osa.model.errors import OsaError
from osa.service.api.kserve.rpc.calls import CallGate
from osa.service.api.kserve.rpc.methods import InferenceMethods
from osa.service.api.kserve.rpc.readiness import ReadinessServicer
from osa.service.models.health import Health
from osa.service.server_settings import ServerSettings

logger = logging.getLogger(__name__)
LEAST_PING_MS = 10_000
"""Clients that ping more often are disconnected; gRPC's own limit of five minutes is too strict for
the keep-alive that many set [ms]."""
PROBES = 100
"""Calls of one connection beyond twice those that are served at once: more wait in the client."""
FLUSH_S = 1.0
"""Least time that answers have to reach their clients after the drain [s]."""


class GrpcServer:
    """Serves the Open Inference Protocol and gRPC's health service on one port.

    Attributes:
        port: What it listens on; 0 before the start.
    """

    def __init__(
        self, settings: ServerSettings, gate: CallGate, methods: InferenceMethods, health: Health
    ) -> None:
        """Bind the parts; ``start`` makes the server.

        Args:
            settings: Address and limits.
            gate: Before every method.
            methods: Of the service.
            health: What the health service follows.
        """
        self._settings, self._gate, self._methods = settings, gate, methods
        self._readiness = ReadinessServicer(health)
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, in the running event loop.

        Raises:
            OsaError: The address is in use.
        """
        server = grpc.aio.server(options=self._options())
        server.add_generic_rpc_handlers((self._methods.handlers(self._gate),))
        add_HealthServicer_to_server(self._readiness, server)
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        try:
            self.port = server.add_insecure_port(f"{address}:{self._settings.grpc_port}")
        except RuntimeError:
            raise OsaError(
                f"cannot listen on {host}:{self._settings.grpc_port} (server.grpc_port)"
            ) from None
        await self._readiness.start()
        await server.start()
        self._server = server
        logger.info("serving gRPC", extra={"host": host, "port": self.port})

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and end those that are open after ``grace_s`` [s]."""
        if self._server is None:
            return
        await self._readiness.stop()
        if not grace_s:
            self._gate.cut_off()
        await self._server.stop(max(grace_s, FLUSH_S))

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 0),  # else a second server would share the port unnoticed
            ("grpc.max_receive_message_length", self._settings.payload_limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", 2 * self._settings.max_concurrent_requests + PROBES),
            ("grpc.keepalive_time_ms", self._settings.keep_alive_s * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ]
