"""Bodies of requests in memory: how long they may take to arrive, and how much all may hold.

Those that are being answered count too. Where all together exceed ``server.body_memory``, the body
that has been arriving longest is given up for the rest; one that is slow does not keep out others.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from osa.service.errors import OverloadedError, ServiceError, SlowBodyError, UnavailableError
from osa.service.server.exchange import Exchange

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.models.health import Health

SLOW_S = 1.0
"""A body that has been arriving for so long is given up for others [s]."""
ANSWER_S = 2.0
"""Time before the end of the drain at which bodies that are not there are given up [s]."""


@dataclass(eq=False)
class _Arrival:
    """A body on its way."""

    exchange: Exchange
    timer: asyncio.Timeout
    began: float = field(default_factory=time.monotonic)
    given_up: bool = False


class Arrivals:
    """All bodies that are on their way."""

    def __init__(self, health: Health) -> None:
        """Count in ``health``, within its settings."""
        self._health = health
        self._arriving: dict[_Arrival, None] = {}

    async def read(self, exchange: Exchange, limit: int) -> bytes | None:
        """The whole body of at most ``limit`` bytes; None if the client went away.

        Raises:
            SlowBodyError: It did not arrive within ``server.body_timeout_s``.
            PayloadTooLargeError: It is over the limit.
            OverloadedError: It was given up for others, or there is no room for it.
            UnavailableError: The drain ended before it arrived.
        """
        wait_s = self._health.settings.body_timeout_s
        if self._health.draining:
            wait_s = min(wait_s, self._drain_s())
        arrival = _Arrival(exchange, asyncio.timeout(wait_s))
        self._arriving[arrival] = None
        try:
            async with arrival.timer:
                while (size := await exchange.read_some(limit)) is not None:
                    self._health.body_bytes += size
                    if self._health.body_bytes > self._health.settings.body_memory:
                        self._make_room(arrival)
                    if exchange.body_complete:
                        return exchange.take_body()
                return None
        except TimeoutError:
            raise self._reason(arrival) from None
        finally:
            del self._arriving[arrival]

    def hold(self, exchange: Exchange, size: int) -> None:
        """Count ``size`` bytes more until the request is answered."""
        exchange.held += size
        self._health.body_bytes += size

    def release(self, exchange: Exchange) -> None:
        """Count the body no longer."""
        self._health.body_bytes -= exchange.held
        exchange.held = 0

    def end_with_drain(self) -> None:
        """Give bodies on their way no more time than the drain has."""
        end = asyncio.get_running_loop().time() + self._drain_s()
        for arrival in self._arriving:
            when = arrival.timer.when()
            if when is not None and when > end and not arrival.timer.expired():
                arrival.timer.reschedule(end)

    def _drain_s(self) -> float:
        return max(0.0, self._health.drain_left_s() - ANSWER_S)

    def _make_room(self, newest: _Arrival) -> None:
        """Give up the slowest bodies until the rest fit.

        Raises:
            OverloadedError: None is slow but ``newest``.
        """
        health, now = self._health, time.monotonic()
        for arrival in self._arriving:  # in the order in which they began
            if health.body_bytes <= health.settings.body_memory:
                return
            if arrival is newest or now - arrival.began < SLOW_S:
                break
            if not arrival.given_up and not arrival.timer.expired():
                arrival.given_up = True
                arrival.timer.reschedule(0.0)
                arrival.exchange.drop_body()
                self.release(arrival.exchange)
        if health.body_bytes > health.settings.body_memory:
            raise self._no_room()

    def _no_room(self) -> ServiceError:
        health = self._health
        return OverloadedError(
            f"bodies of requests hold {health.body_bytes} bytes, at most "
            f"{health.settings.body_memory} are kept (server.body_memory)",
            max(1, round(health.backlog_s())),
        )

    def _reason(self, arrival: _Arrival) -> ServiceError:
        """Why the time of a body was over."""
        waited_s = time.monotonic() - arrival.began
        if arrival.given_up:
            return OverloadedError(
                f"the body had not arrived after {waited_s:.1f} s, and its place was needed "
                "(server.body_memory)",
                1,
            )
        limit_s = self._health.settings.body_timeout_s
        if self._health.draining and waited_s < limit_s:
            return UnavailableError("the server is draining, and the body has not arrived")
        return SlowBodyError(f"the body did not arrive within {limit_s} s")
