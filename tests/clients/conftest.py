"""Clients that others wrote, unchanged, against a real server; none of them leaves the machine.

They are in the extra ``clients``; where that is not installed their tests are skipped.
"""

from __future__ import annotations

import gc
import importlib
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

TEXTS = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "é 漢字 🎸"]
LOCAL = ("127.0.0.1", "::1", "localhost")
LITELLM_WARNS = pytest.mark.filterwarnings("ignore:Items? .*ReadOnly:UserWarning")
"""It builds its own types at the first call, and pydantic warns of them."""
QUIET = {
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""What keeps these packages from calling home."""


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Keep clients from other machines, and fail a test that leaves one of them listed."""
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
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    gc.freeze()  # so that the collection below looks at this test's objects alone
    yield strangers
    with warnings.catch_warnings():  # some clients leave their connections to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.unfreeze()
    assert strangers == []


@pytest.fixture
def load() -> Callable[[str], Any]:
    """Import a package of the extra ``clients``, or skip; its own warnings are not ours."""

    def load(name: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                pytest.skip(f"{error}; pip install -e '.[clients]'")

    return load


@pytest.fixture
def url(client: httpx.Client) -> str:
    """Of the server with the packaged model, without a slash at its end."""
    return str(client.base_url).rstrip("/")


@pytest.fixture(scope="session")
def vectors(client: httpx.Client) -> np.ndarray:
    """What ``/embed`` answers for ``TEXTS`` [3, 384]."""
    answer = client.post("/embed", json={"inputs": TEXTS})
    return np.array(answer.json(), dtype=np.float32)


def same(given: Any, expected: np.ndarray) -> None:
    """Equal float32 numbers, whatever they came in."""
    np.testing.assert_array_equal(np.array(given, dtype=np.float32), expected)
