"""Clients of other projects, unchanged, against a real server; they connect to this machine only.

``tests/integration/test_clients_of_others.py`` starts the server and runs the files of this folder,
each in its own process, so that background threads and warnings do not affect other tests.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

SERVER = "CLIENTS_SERVER"
"""Environment variable with the server's address."""
GRPC_SERVER = "CLIENTS_GRPC_SERVER"
"""Environment variable with its address for gRPC, if it speaks that."""
collect_ignore_glob = [] if SERVER in os.environ else ["test_*.py"]
TEXTS = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "é 漢字 🎸"]
LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Block connections to other machines; fail if the yielded list has any at the end."""
    strangers: list[object] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            strangers.append(address)
            raise ConnectionRefusedError(f"not this machine: {address}")
        connect(self, address)

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in (None, *LOCAL):
            strangers.append(host)
            raise socket.gaierror(f"not this machine: {host}")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield strangers
    assert strangers == []


@pytest.fixture
def load() -> Callable[[str], Any]:
    """Import a package of the extra ``clients``, or skip."""

    def load(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error}; pip install -e '.[clients]'")

    return load


@pytest.fixture(scope="session")
def url() -> str:
    """URL of the server, without a slash at its end."""
    return os.environ[SERVER]


@pytest.fixture(scope="session")
def vectors(url: str) -> np.ndarray:
    """What ``/embed`` answers for ``TEXTS`` [3, 384]."""
    answer = httpx.post(f"{url}/embed", json={"inputs": TEXTS})
    return np.array(answer.json(), dtype=np.float32)


def same(given: Any, expected: np.ndarray) -> None:
    """Whether two arrays are equal as float32, whatever their types."""
    np.testing.assert_array_equal(np.array(given, dtype=np.float32), expected)
