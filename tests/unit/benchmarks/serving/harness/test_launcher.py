"""Ports, and servers that do not start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks.serving.harness.launcher import free_port, run_server
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.environments import (
    PeerUnavailable,
)
from tests.unit.benchmarks.serving.harness.conftest import make_launch


def test_the_ports_found_are_free() -> None:
    port = free_port()
    for place in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port + place))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(PeerUnavailable, match=r"exit code 2:[\s\S]*model\.path"),
        run_server(PEERS["osa"], make_launch(tmp_path / "nothing"), tmp_path / "server.log"),
    ):
        pass


def test_ports_that_were_asked_for_are_used_or_refused() -> None:
    port = free_port()
    assert free_port(port) == port
    problem = pytest.raises(OSError, match=f"ports {port} to {port + 2} are not free")
    with socket.create_server(("127.0.0.1", port + 1)), problem:
        free_port(port)
