"""A server whose terminal closes, whose log nobody reads, and whose drain meets half a body."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import PATIENCE_S, free_port, wait_until
from tests.e2e.test_server_process import PATIENT, open_request
from tests.server_process import OSA, is_ready, running_server


@pytest.fixture(autouse=True)
def _a_terminal() -> Iterator[None]:
    """Tests that run under nohup ignore SIGHUP, and servers inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def events(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_terminal_that_closes_drains_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server(log, **PATIENT) as (process, port), open_request(port, "/embed") as slow:
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: not is_ready(port))
        process.send_signal(signal.SIGHUP)  # shells repeat that of the terminal
        assert process.poll() is None, "it must wait for the open request"
        slow.sendall(b'{"inputs": "a cat"}'.ljust(100))
        assert b"the server is draining" in slow.recv(65536)
        assert process.wait(timeout=PATIENCE_S) == 0
    assert "draining" in [event["message"] for event in events(log)]


def test_a_server_that_ignores_its_terminal_goes_on(tmp_path: Path) -> None:
    nohup = [sys.executable, "-c", "import signal, sys; from osa.service.cli import main; "
             "signal.signal(signal.SIGHUP, signal.SIG_IGN); sys.exit(main())"]  # fmt: skip
    with running_server(tmp_path / "log", osa=nohup) as (process, port):
        process.send_signal(signal.SIGHUP)
        assert httpx.post(f"http://127.0.0.1:{port}/embed", json={"inputs": "a"}).status_code == 200
        assert is_ready(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0


def test_half_a_body_does_not_hold_the_drain_beyond_its_limit(tmp_path: Path) -> None:
    """The body may take half an hour; the drain has four seconds and says so before they end."""
    settings = {"OSA_SERVER__DRAIN_TIMEOUT_S": "4", "OSA_SERVER__BODY_TIMEOUT_S": "1800"}
    log = tmp_path / "log"
    with (
        running_server(log, **settings) as (process, port),
        open_request(port, "/embed") as slow,
    ):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"the body has not arrived" in answer
    messages = [event["message"] for event in events(log)]
    assert "drain ran out" not in messages
    assert "the engine did not finish" not in messages


def test_work_that_does_not_end_does_not_hold_the_drain_beyond_its_limit(tmp_path: Path) -> None:
    """Documents that take minutes are being computed when the signal comes."""
    limit_s = 4.0
    settings = {
        "OSA_SERVER__DRAIN_TIMEOUT_S": str(limit_s),
        "OSA_MODEL__MAX_INPUT_LENGTH": "4000000",
        "OSA_SERVER__REQUEST_TIMEOUT_S": "600",
    }
    body = json.dumps({"inputs": "a b " * 450_000}).encode()
    with (
        running_server(tmp_path / "log", **settings) as (process, port),
        contextlib.ExitStack() as clients,
    ):
        for _ in range(2):
            connection = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
        time.sleep(3.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(timeout=PATIENCE_S)
        took_s = time.monotonic() - began
    assert 0.5 * limit_s < took_s < limit_s + 0.9


def test_a_log_that_nobody_reads_does_not_stop_the_server(tmp_path: Path) -> None:
    port = free_port()
    read_end, write_end = os.pipe()
    command = [*OSA, "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(command, env=environment, stderr=write_end)
    os.close(write_end)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(port))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            for _ in range(1000):  # four times what a pipe holds
                assert client.get("/livez").status_code == 200
            assert "osa_dropped_log_lines_total" in client.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(read_end)


def ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6_works(), reason="no IPv6 here")
def test_an_address_may_be_in_brackets_as_in_a_url(tmp_path: Path) -> None:
    port, grpc_port = free_port(), free_port()
    command = [*OSA, "serve", "--host", "[::1]", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OSA_SERVER__GRPC_PORT": str(grpc_port)}
    with (tmp_path / "log").open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
    try:
        base = f"http://[::1]:{port}"

        def ready() -> bool:
            try:
                return httpx.get(f"{base}/readyz").status_code == 200
            except httpx.TransportError:
                return process.poll() is not None

        wait_until(ready)
        assert httpx.post(f"{base}/embed", json={"inputs": "a"}).status_code == 200
        socket.create_connection(("::1", grpc_port), 10).close()
    finally:
        process.kill()
        process.wait()
