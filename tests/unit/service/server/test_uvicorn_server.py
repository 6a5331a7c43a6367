"""The listening socket: bound before the model loads, and without Nagle's delay."""

from __future__ import annotations

import asyncio
import socket

import pytest

from osa.model.errors import ConfigError
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


@pytest.mark.parametrize(
    ("host", "family", "reached"),
    [
        ("127.0.0.1", socket.AF_INET, ["127.0.0.1"]),
        ("localhost", socket.AF_INET, ["127.0.0.1"]),
        ("::1", socket.AF_INET6, ["::1"]),
        ("[::1]", socket.AF_INET6, ["::1"]),
        ("::", socket.AF_INET6, ["::1", "127.0.0.1"]),
        ("[::]", socket.AF_INET6, ["::1", "127.0.0.1"]),
    ],
)
def test_an_address_of_either_kind_is_listened_on(
    host: str, family: socket.AddressFamily, reached: list[str]
) -> None:
    with bind(local_settings(server__host=host).server) as listener:
        assert listener.family == family
        for address in reached:
            socket.create_connection((address, listener.getsockname()[1]), 10).close()


@pytest.mark.parametrize("host", ["127.0.0.1:80", "http://a", "[::1]:80", "", "a b", "[::1"])
def test_an_address_with_more_than_a_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.host: .*an address or a host name"):
        local_settings(server__host=host)


@pytest.mark.parametrize(
    ("host", "written"),
    [("nowhere.invalid", "nowhere.invalid:"), ("2001:db8::1", "[2001:db8::1]:")],
)
def test_an_address_that_is_not_here_is_named(host: str, written: str) -> None:
    with pytest.raises(ListenError) as refused:
        bind(local_settings(server__host=host).server)
    assert f"cannot listen on {written}" in str(refused.value)
