"""The listening socket: bound before the model loads, and without Nagle's delay."""

from __future__ import annotations

import asyncio
import socket

import pytest

from osa.service.server.uvicorn_server import ListenError, bind
from tests.conftest import local_settings


def test_answers_are_not_held_back() -> None:
    """Head and body of an answer are two writes: with Nagle's delay the second waits 40 ms."""

    async def accepted_without_delay(listener: socket.socket) -> bool:
        accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepted.set_result(bool(option))
            writer.close()

        server = await asyncio.start_server(connected, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            result = await accepted
            writer.close()
            await writer.wait_closed()
            return result

    with bind(local_settings().server) as listener:
        assert asyncio.run(accepted_without_delay(listener))


def test_a_taken_address_is_named() -> None:
    with bind(local_settings().server) as listener:
        port = listener.getsockname()[1]
        for name in ("server__port", "server__grpc_port"):
            with pytest.raises(ListenError, match=f"127.0.0.1:{port}: Address already"):
                bind(local_settings(**{name: port}).server)
