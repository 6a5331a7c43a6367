"""uvicorn with a drain: after SIGTERM open requests are answered, then the process ends.

While draining, new inference requests are answered 503 with ``Retry-After`` and every connection
closes after its reply. The listener stays until nothing has been open for ``QUIET_S``. A second
signal, or ``drain_timeout_s``, ends the wait. SIGHUP, which the end of a terminal sends, drains
too; a process for which it was ignored (``nohup``) goes on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from osa.model.errors import OsaError
from osa.service.server.exchange import QUIET_S
from osa.service.server.http11 import LlhttpProtocol
from osa.service.server.outlets import Departures
from osa.service.server_settings import ServerSettings
from osa.service.settings import Settings

if TYPE_CHECKING:  # a used port is reported before the service is imported
    from osa.service.server.app import Service

logger = logging.getLogger(__name__)
BACKLOG = 2048
SWITCH_S = 0.0001
"""Longest time that a thread which needs the interpreter waits for one that has it [s]. An eager
engine needs it after every operator: with Python's own 0.005 s, one thread that reads a large body
takes most of the engine's rate (docs/log.md)."""

LEAST_S = 0.1
"""For connections to close in, whatever is left of a drain [s]."""

GC_THRESHOLDS = (100_000, 50, 100)
"""Of the garbage collector. With Python's own, a large body of small lists is searched for cycles
again and again while it is read: 80 ms in which no other thread runs, and 30 ms with these."""


class ListenError(OsaError):
    """The server cannot listen on the address."""

    code = "listen"


class DrainingServer(uvicorn.Server):
    """A uvicorn server that answers every accepted request before it ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Watch ``service`` while draining."""
        super().__init__(config)
        self._health, self._arrivals = service.health, service.arrivals
        self._busy_at = 0.0
        self._told_drain = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGHUP too, unless it is ignored."""
        hangup = getattr(signal, "SIGHUP", None)
        main = threading.current_thread() is threading.main_thread()
        if hangup is None or not main or signal.getsignal(hangup) is signal.SIG_IGN:
            with super().capture_signals():
                yield
            return
        before = signal.signal(hangup, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(hangup, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first signal; end at once on the second.

        A second one that is SIGHUP changes nothing: shells repeat that of the terminal. A handler
        interrupts whatever the main thread does, so that this one takes no lock and writes no log.
        """
        if self._health.draining:
            if sig == getattr(signal, "SIGHUP", None):
                return
            self._health.drain_until = time.monotonic()
            self.should_exit = self.force_exit = True
            return
        self._health.begin_drain()
        self._busy_at = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: end once nothing is open, or the drain's time is over."""
        if self._health.draining and not self.should_exit:
            left_s, now = self._health.answers_left_s(), time.monotonic()
            if not self._told_drain:
                self._told_drain = True
                logger.info("draining", extra={"open_requests": self._health.open_requests})
                self._arrivals.end_with_drain()
            if self._health.open_requests:
                self._busy_at = now
            if not left_s and self._health.open_requests:
                logger.warning("drain ran out", extra={"open": self._health.open_requests})
            self.should_exit = not left_s or now - self._busy_at >= QUIET_S
            # an answer is out before its request is closed; what is left at the end is told so
            rest_s = max(LEAST_S, self._health.drain_left_s() / 2)
            self.config.timeout_graceful_shutdown = rest_s  # type: ignore[assignment]  # any number
        return await super().on_tick(counter)


def uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    """Uvicorn's settings: our protocol class and logs; proxy headers are ignored."""
    return uvicorn.Config(
        service.app,
        host=settings.server.host,
        port=settings.server.port,
        http=functools.partial(  # type: ignore[arg-type]
            LlhttpProtocol, departures=Departures(service.health)
        ),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.server.keep_alive_s,
        timeout_graceful_shutdown=1,
    )


def bind(settings: ServerSettings) -> socket.socket:
    """Bind the address before the model is loaded, so that used ports fail at once.

    Requests that arrive while the model loads wait for it.

    Raises:
        ListenError: Naming the address and the reason.
    """
    if settings.grpc_port:
        _listen(settings.host, settings.grpc_port).close()  # gRPC binds it itself, at its start
    return _listen(settings.host, settings.port)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise ListenError(f"cannot listen on {_written(host)}:{port}: {reason}") from error
    # of a name with addresses of both families, IPv4
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    # asyncio disables Nagle's algorithm only if the protocol is given
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if family == socket.AF_INET6:  # "::" takes IPv4 too, whatever the system's default
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {_written(host)}:{port}: {error.strerror}") from error
    return listener


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(service: Service, settings: Settings, listener: socket.socket) -> None:
    """Serve on ``listener`` until SIGTERM or SIGINT, and drain."""
    sys.setswitchinterval(SWITCH_S)
    # loaded objects live as long as the process: the garbage collector need not scan them
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    config = uvicorn_config(service, settings)
    server = DrainingServer(config, service)
    host, port = listener.getsockname()[:2]
    logger.info("serving", extra={"host": host, "port": port})
    server.run(sockets=[listener])
