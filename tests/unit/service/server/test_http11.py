"""A connection without a network: what it keeps, and for how long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from osa.service.models.health import Health
from osa.service.server.http11 import LlhttpProtocol
from osa.service.server.outlets import Departures
from tests.conftest import local_settings
from tests.wire import HEALTH

NO_MODELS: Any = SimpleNamespace(all=list)


class StubTransport(asyncio.Transport):
    """Takes everything, and knows whether it would read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.aborted, self.written = True, False, b""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written += bytes(data)


def connection(app: Any) -> tuple[LlhttpProtocol, StubTransport]:
    health = Health(NO_MODELS, local_settings().server)
    protocol = LlhttpProtocol(
        departures=Departures(health), config=uvicorn.Config(app, log_config=None, lifespan="off"),
        server_state=ServerState(), app_state={},
    )  # fmt: skip
    transport = StubTransport()
    protocol.connection_made(transport)
    return protocol, transport


def test_nothing_is_read_while_bytes_are_held() -> None:
    async def run() -> None:
        asked, gate = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            leaves = asyncio.ensure_future(receive())  # whether the client leaves
            asked.set()
            await gate.wait()
            leaves.cancel()
            head = {"type": "http.response.start", "status": 200}
            await send({**head, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        protocol, transport = connection(app)
        protocol.data_received(HEALTH * 1000)
        await asked.wait()
        await asyncio.sleep(0.01)
        assert not transport.reading
        gate.set()
        while transport.written.count(b"200 OK") < 1000:
            await asyncio.sleep(0.001)
        assert transport.reading
        protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_stream_that_breaks_off_does_not_look_whole(version: bytes) -> None:
    """Without chunks the end of the connection is the end of an answer, unless it is reset."""

    async def run() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

        protocol, transport = connection(app)
        protocol.data_received(HEALTH.replace(b"1.1", version))
        while b"half" not in transport.written:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert transport.aborted == (version == b"1.0")
        assert (b"chunked" in transport.written) == (version == b"1.1")
        assert not transport.written.endswith(b"0\r\n\r\n")
        protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_no_timer_outlives_its_connection() -> None:
    async def run() -> None:
        protocol, _ = connection(None)
        timer = protocol.timeout_keep_alive_task
        assert timer is not None
        protocol.connection_lost(ConnectionResetError())
        assert timer.cancelled()

    asyncio.run(run())
