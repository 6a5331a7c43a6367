"""uvicorn with a drain: SIGTERM flips readiness, open requests are answered, then it ends.

While draining, new inference requests are answered 503 with ``Retry-After`` and every connection
closes after its reply. A second signal, or ``drain_timeout_s``, ends the wait.
"""

from __future__ import annotations

import logging
import socket
import time
from types import FrameType

import uvicorn

from osa.model.errors import OsaError
from osa.service.app import Service
from osa.service.settings import ServerSettings, Settings

logger = logging.getLogger(__name__)
GRACE_S = 1


class ListenError(OsaError):
    """The address cannot be listened on."""

    code = "listen"


class DrainingServer(uvicorn.Server):
    """A uvicorn server that answers what it has accepted before it goes."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_timeout_s: float) -> None:
        """Watch ``service`` while draining, at most ``drain_timeout_s`` [s]."""
        super().__init__(config)
        self._health, self._drain_timeout_s = service.health, drain_timeout_s
        self._drain_until = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first signal; end at once on the second."""
        if self._health.draining:
            super().handle_exit(sig, frame)
            return
        self._drain_until = time.monotonic() + self._drain_timeout_s
        self._health.draining = True
        logger.info("draining", extra={"in_flight": self._health.in_flight})

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: end when nothing is open, or the time is up."""
        if self._health.draining and not self.should_exit:
            expired = time.monotonic() >= self._drain_until
            if expired and self._health.in_flight:
                logger.warning("drain timed out", extra={"in_flight": self._health.in_flight})
            self.should_exit = expired or not self._health.in_flight
        return await super().on_tick(counter)


def uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    """Uvicorn's settings: h11 (httptools drops POSTs that offer an upgrade), our logs."""
    return uvicorn.Config(
        service.app,
        host=settings.server.host,
        port=settings.server.port,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.server.keep_alive_s,
        timeout_graceful_shutdown=GRACE_S,
    )


def bind(settings: ServerSettings) -> socket.socket:
    """Take the address before the model is loaded, so that a taken port fails at once.

    Raises:
        ListenError: Naming the address and the reason.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        address = f"{settings.host}:{settings.port}"
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    return listener


def serve(service: Service, settings: Settings, listener: socket.socket) -> None:
    """Answer on ``listener`` until SIGTERM or SIGINT has been drained."""
    config = uvicorn_config(service, settings)
    server = DrainingServer(config, service, settings.server.drain_timeout_s)
    host, port = listener.getsockname()[:2]
    logger.info("serving", extra={"host": host, "port": port})
    server.run(sockets=[listener])
