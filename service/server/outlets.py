"""What a connection sends: piece by piece, as fast as the client takes it.

A client must take ``LEAST_TAKEN`` bytes in every ``server.write_timeout_s``, or the connection is
aborted. While all answers together exceed ``server.answer_memory``, more is asked: those that are
taken slowest are let go until the rest fit, unless they go out at ``GOOD_RATE``, or whole within
``server.write_timeout_s``.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import math
import select
import socket
import struct
import sys
import termios
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.models.health import Health

logger = logging.getLogger(__name__)
PIECE = 131_072
"""Bytes that are handed to the transport at once; they are sent at once, or waited for."""
UNSENT_IN_KERNEL = 131_072
"""Bytes that the kernel takes beyond what the client's window admits."""
LEAST_TAKEN = 16_384
"""Bytes that a client takes in every ``server.write_timeout_s``, or the rest of its answer."""
GOOD_RATE = 1e6
"""Who takes so much keeps the connection, however much is unread in all [bytes/s]."""
MEASURED_S = 2.0
"""For how long an answer has been on its way when its rate is first judged [s]."""
JUDGED_EVERY_S = 0.25
"""Shortest time between two judgements of all answers [s]."""
MOST_LOOK_S = 1.0
"""Longest time between two looks whether a peer is gone [s]."""
RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: closing discards what is unsent."""
_OUTQ = getattr(termios, "TIOCOUTQ", None) if sys.platform == "linux" else None


class Departures:
    """All answers on their way out: what they hold together is bounded."""

    def __init__(self, health: Health) -> None:
        """Count in ``health``, within its settings."""
        self.health = health
        self._leaving: dict[Outlet, None] = {}
        self._judged = 0.0

    @contextlib.contextmanager
    def counted(self, outlet: Outlet, size: int) -> Iterator[None]:
        """Within the block ``size`` bytes are on their way, unless they are given up."""
        outlet.begin(size)
        self.health.answer_bytes += size
        self._leaving[outlet] = None
        self.make_room()
        try:
            yield
        finally:
            self._forget(outlet)

    def make_room(self) -> None:
        """Let the slowest go until the rest fit; one that is taken well enough stays."""
        health, now = self.health, time.monotonic()
        most = health.settings.answer_memory
        if health.answer_bytes <= most or now - self._judged < JUDGED_EVERY_S:
            return
        self._judged = now
        slow = [(took_s, outlet) for outlet in self._leaving if (took_s := outlet.slow_s(now))]
        for _, outlet in sorted(slow, key=lambda one: one[0], reverse=True):
            if health.answer_bytes <= most:
                return
            self._forget(outlet)  # at once: whoever comes next finds the room
            outlet.let_go()

    def _forget(self, outlet: Outlet) -> None:
        if outlet in self._leaving:
            del self._leaving[outlet]
            self.health.answer_bytes -= outlet.size


class Outlet:
    """What one connection sends."""

    def __init__(
        self, transport: asyncio.Transport, flow: FlowControl, departures: Departures
    ) -> None:
        """Have the transport keep nothing that it need not, and tell when it has sent all."""
        self.transport, self.flow, self.departures = transport, flow, departures
        self._timeout_s = departures.health.settings.write_timeout_s
        self.size = self._written = self._credited = self._taken_before = 0
        self._stalled_s = self._began = 0.0
        transport.set_write_buffer_limits(high=0)
        self.socket: socket.socket | None = transport.get_extra_info("socket")
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if self.socket is not None and option is not None:
            with contextlib.suppress(OSError):  # a hint to the kernel; no TCP, no hint
                self.socket.setsockopt(socket.IPPROTO_TCP, option, UNSENT_IN_KERNEL)

    async def put(self, data: bytes) -> None:
        """Send, and return when the kernel has taken all, or the connection is gone."""
        size = len(data)
        if size <= PIECE:
            self._write(data)
            if self.flow.write_paused:
                with self.departures.counted(self, size):
                    await self._wait()
            return
        view = memoryview(data)
        with self.departures.counted(self, size):
            for start in range(0, size, PIECE):
                self._write(view[start : start + PIECE])
                if self.flow.write_paused:
                    await self._wait()
                if self.transport.is_closing():
                    return

    def begin(self, size: int) -> None:
        """Measure from now on how fast ``size`` bytes are taken."""
        self.size, self._began, self._taken_before = size, time.monotonic(), self._taken()

    def slow_s(self, now: float) -> float:
        """Time in which all is taken at the rate so far [s]; 0 where that is soon enough."""
        waited_s, taken = now - self._began, self._taken() - self._taken_before
        if waited_s < MEASURED_S:
            return 0.0
        rate = max(0, taken) / waited_s
        if rate >= min(GOOD_RATE, self.size / self._timeout_s):
            return 0.0
        return self.size / rate if rate else math.inf

    def is_reset(self) -> bool:
        """Whether the peer has refused what was sent to it."""
        if self.socket is None:
            return False
        poll = select.poll()
        poll.register(self.socket.fileno(), 0)
        return bool(poll.poll(0))  # an error or a hang-up

    def look(self, wait_s: float) -> None:
        """Reset the connection if the peer has gone altogether; look again in ``wait_s``."""
        if self.transport.is_closing():
            return
        if self.is_reset():
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        loop.call_later(wait_s, self.look, min(2 * wait_s, MOST_LOOK_S))

    def close(self) -> None:
        """Close, and do not wait for ever for what is unsent."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._timeout_s, self.transport.abort)

    def _write(self, data: bytes | memoryview) -> None:
        self.transport.write(data)
        self._written += len(data)

    async def _wait(self) -> None:
        """Wait until all is sent, while the client takes something."""
        tick_s = min(1.0, MEASURED_S / 4, self._timeout_s / 4)
        while self.flow.write_paused and not self.transport.is_closing():
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick_s):
                    await self.flow.drain()
            self._stalled_s += time.monotonic() - began
            taken = self._taken()
            if taken - self._credited >= LEAST_TAKEN:
                self._credited, self._stalled_s = taken, 0.0
            if self.flow.write_paused and self._stalled_s >= self._timeout_s:
                self.let_go()
            else:
                self.departures.make_room()

    def _taken(self) -> int:
        return self._written - self._unsent()

    def _unsent(self) -> int:
        """Bytes that the client has not acknowledged, or where nobody knows, not been sent."""
        unsent = self.transport.get_write_buffer_size()
        if _OUTQ is not None and self.socket is not None:
            queued = array.array("i", [0])
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                fcntl.ioctl(self.socket.fileno(), _OUTQ, queued)
            unsent += queued[0]
        return unsent

    def abort(self) -> None:
        """Reset the connection, so that the kernel forgets what it has not sent."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def let_go(self) -> None:
        """Reset a connection for its client's slowness."""
        self.departures.health.slow_readers += 1
        logger.warning(
            "a client that does not read was disconnected",
            extra={"unsent_bytes": self._unsent(), "waited_s": round(self._stalled_s, 1)},
        )
        self.abort()
