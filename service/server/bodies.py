"""Bodies of requests in memory: how long they may take to arrive, and how much all may hold.

Those that are being answered count too. Where all together exceed ``server.body_memory``, the body
that has been arriving longest is given up for the rest; one that is slow does not keep out others.
A tenant of several may hold as much as it leaves free. Bodies of administrators are small, and
always have room: operators must be heard when it is most needed.
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
ADMIN_LIMIT = 65_536
"""Largest body of an administrator's request, which no limit of all bodies concerns [bytes]."""
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
                    if arrival.given_up:  # between the piece's arrival and now
                        raise self._reason(arrival)
                    self._count(exchange, size)
                    self._make_room(exchange)
                    if exchange.body_complete:
                        return exchange.take_body()
                return None
        except TimeoutError:
            raise self._reason(arrival) from None
        finally:
            del self._arriving[arrival]

    def hold(self, exchange: Exchange, size: int) -> None:
        """Count ``size`` bytes more until the request is answered.

        Raises:
            OverloadedError: There is no room for them.
        """
        self._count(exchange, size)
        self._make_room(exchange)

    def release(self, exchange: Exchange) -> None:
        """Count the body no longer."""
        self._count(exchange, -exchange.held)

    def _count(self, exchange: Exchange, size: int) -> None:
        if exchange.admin:
            return
        exchange.held += size
        self._health.count_body(size, exchange.tenant)

    def end_with_drain(self) -> None:
        """Give bodies on their way no more time than the drain has."""
        end = asyncio.get_running_loop().time() + self._drain_s()
        for arrival in self._arriving:
            when = arrival.timer.when()
            if when is not None and when > end and not arrival.timer.expired():
                arrival.timer.reschedule(end)

    def _drain_s(self) -> float:
        return max(0.0, self._health.drain_left_s() - ANSWER_S)

    def _make_room(self, newest: Exchange) -> None:
        """Give up the slowest bodies until the rest fit.

        Raises:
            OverloadedError: None is slow but ``newest``.
        """
        problem = "" if newest.admin else self._problem(newest)
        if not problem:
            return
        now = time.monotonic()
        for arrival in self._arriving:  # in the order in which they began
            other = arrival.exchange
            if not problem or other is newest or now - arrival.began < SLOW_S:
                break
            if not other.held or not (self._is_over() or other.tenant == newest.tenant):
                continue
            if not arrival.given_up and not arrival.timer.expired():
                arrival.given_up = True
                arrival.timer.reschedule(0.0)
                other.drop_body()
                self.release(other)
                problem = self._problem(newest)
        if problem:
            raise OverloadedError(problem, max(1, round(self._health.backlog_s())))

    def _is_over(self) -> bool:
        return self._health.body_bytes > self._health.settings.body_memory

    def _problem(self, newest: Exchange) -> str:
        """Why there is no room for a body that has been counted; empty if there is."""
        return self._health.body_problem(newest.held, newest.tenant)

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
