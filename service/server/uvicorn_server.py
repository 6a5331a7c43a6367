"""uvicorn with a drain: SIGTERM flips readiness, open requests are answered, then it ends.

While draining, new inference requests are answered 503 with ``Retry-After`` and every connection
closes after its reply. The listener stays until nothing has been open for ``QUIET_S``. A second
signal, or ``drain_timeout_s``, ends the wait.
"""

from __future__ import annotations

import gc
import logging
import math
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from osa.model.errors import OsaError
from osa.service.server.http11 import LlhttpProtocol
from osa.service.settings import ServerSettings, Settings

if TYPE_CHECKING:  # a taken port is told before all that a service needs is imported
    from osa.service.server.app import Service

logger = logging.getLogger(__name__)
QUIET_S = 0.5
BACKLOG = 2048


class ListenError(OsaError):
    """The address cannot be listened on."""

    code = "listen"


class DrainingServer(uvicorn.Server):
    """A uvicorn server that answers what it has accepted before it goes."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Watch ``service`` while draining."""
        super().__init__(config)
        self._health = service.health
        self._busy_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first signal; end at once on the second."""
        if self._health.draining:
            self._health.drain_until = time.monotonic()
            self.should_exit = self.force_exit = True
            return
        self._health.begin_drain()
        self._busy_at = time.monotonic()
        logger.info("draining", extra={"open_requests": self._health.open_requests})

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: end when all is quiet, or the time is up."""
        if self._health.draining and not self.should_exit:
            left_s, now = self._health.drain_left_s(), time.monotonic()
            if self._health.open_requests:
                self._busy_at = now
            if not left_s and self._health.open_requests:
                logger.warning("drain ran out", extra={"open": self._health.open_requests})
            self.should_exit = not left_s or now - self._busy_at >= QUIET_S
            # what has been answered may still be on its way to a slow reader
            self.config.timeout_graceful_shutdown = max(1, math.ceil(left_s))
        return await super().on_tick(counter)


def uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    """Uvicorn's settings: our protocol and logs; nothing asks for a proxy's headers."""
    return uvicorn.Config(
        service.app,
        host=settings.server.host,
        port=settings.server.port,
        http=LlhttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.server.keep_alive_s,
        timeout_graceful_shutdown=1,
    )


def bind(settings: ServerSettings) -> socket.socket:
    """Take the address before the model is loaded, so that a taken port fails at once.

    Requests that come while the model loads wait for it.

    Raises:
        ListenError: Naming the address and the reason.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's delay (40 ms an answer) off only where the protocol is named
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        address = f"{settings.host}:{settings.port}"
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    return listener


def serve(service: Service, settings: Settings, listener: socket.socket) -> None:
    """Answer on ``listener`` until SIGTERM or SIGINT has been drained."""
    # what is loaded stays: the collector need not look at it again (a quarter of the loop's time)
    gc.collect()
    gc.freeze()
    config = uvicorn_config(service, settings)
    server = DrainingServer(config, service)
    host, port = listener.getsockname()[:2]
    logger.info("serving", extra={"host": host, "port": port})
    server.run(sockets=[listener])
