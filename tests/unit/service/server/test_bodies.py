"""Bodies that are given up for others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from osa.service.errors import OverloadedError
from osa.service.models.health import Health
from osa.service.server import bodies
from osa.service.server.bodies import Arrivals
from osa.service.server.exchange import Exchange
from tests.conftest import local_settings

NO_MODELS: Any = SimpleNamespace(all=list)


class Sender:
    """A client whose pieces come when they are told to."""

    def __init__(self, health: Health) -> None:
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "http", "headers": []}
        self.exchange = Exchange(scope, self.pieces.get, self._send, health)

    def send(self, piece: bytes, more: bool) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    async def _send(self, message: Any) -> None:
        raise AssertionError("nothing is answered here")


def test_a_body_that_was_given_up_is_not_read_without_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last piece comes in the moment in which its place is taken."""
    monkeypatch.setattr(bodies, "SLOW_S", 0.0)

    async def run() -> None:
        health = Health(NO_MODELS, local_settings(server__body_memory=1024).server)
        arrivals = Arrivals(health)
        slow, new = Sender(health), Sender(health)
        slow.send(b"a" * 900, more=True)
        reading = [asyncio.ensure_future(arrivals.read(one.exchange, 2000)) for one in (slow, new)]
        await asyncio.sleep(0.01)
        assert health.body_bytes == 900
        new.send(b"b" * 900, more=False)
        slow.send(b"c" * 10, more=False)
        assert await reading[1] == b"b" * 900
        with pytest.raises(OverloadedError, match="its place was needed"):
            await reading[0]
        for one in (slow, new):
            arrivals.release(one.exchange)
        assert health.body_bytes == 0

    asyncio.run(run())
