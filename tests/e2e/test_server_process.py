"""The server as a process: start, embed, scrape, and SIGTERM under load without lost requests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import PATIENCE_S, wait_until
from tests.server_process import OSA, is_ready, running_server

PARAPHRASES = [
    ("A man is playing a guitar.", "Someone plays an acoustic guitar."),
    ("The company reported higher profits this year.", "Earnings of the firm rose."),
    ("How do I cook rice?", "What is the best way to prepare rice?"),
]


def test_a_server_serves_is_scraped_and_ends_cleanly(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server(log) as (process, port):
        base = f"http://127.0.0.1:{port}"
        texts = [text for pair in PARAPHRASES for text in pair]
        vectors = np.array(httpx.post(f"{base}/embed", json={"inputs": texts}).json())
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -1.0)
        assert similar.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]

        exposition = httpx.get(f"{base}/metrics").text
        families = {family.name for family in text_string_to_metric_families(exposition)}
        assert {"te_request_count", "te_request_duration", "osa_backlog_seconds"} <= families
        assert 'te_embed_success{model="osa-default"} 6.0' in exposition

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
    logged = log.read_text()
    assert "Traceback" not in logged
    assert all(text not in logged for text in texts), "texts must never be logged"


class Load:
    """Clients that post one request after the other and record the outcome of each."""

    def __init__(self, port: int, clients: int) -> None:
        self.answered, self.refused = 0, 0
        self.lost: list[str] = []
        self._url = f"http://127.0.0.1:{port}/embed"
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=PATIENCE_S)
            assert not thread.is_alive()

    def _run(self) -> None:
        texts = [f"sentence number {place} of a request" for place in range(20)]
        while not self._stop.is_set():
            try:  # a connection of its own, so that a refusal is never a stale keep-alive
                response = httpx.post(self._url, json={"inputs": texts}, timeout=PATIENCE_S)
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                self.lost.append(repr(error))
                return
            with self._lock:
                if response.status_code == 200 and len(response.json()) == len(texts):
                    self.answered += 1
                elif response.status_code == 503 and "retry-after" in response.headers:
                    self.refused += 1
                    return
                else:
                    self.lost.append(response.text)


PATIENT = {"OSA_SERVER__DRAIN_TIMEOUT_S": "3600", "OSA_SERVER__BODY_TIMEOUT_S": "3600"}
"""With these no timeout ends what a test waits for."""


@contextmanager
def open_request(port: int, path: str) -> Iterator[socket.socket]:
    """A request whose body never comes; the server has begun to wait for it."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(head.encode())
        assert slow.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield slow


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path / "log", **PATIENT) as (process, port):
        load = Load(port, clients=8)
        load.start()
        wait_until(lambda: load.answered >= 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
        load.stop()
    assert load.lost == []
    assert load.answered >= 10


def test_a_second_signal_ends_a_drain_that_hangs(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "log", **PATIENT) as (process, port),
        open_request(port, "/embed"),
    ):
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(port))
        assert process.poll() is None, "it must wait for the open request"
        refused = httpx.post(f"http://127.0.0.1:{port}/embed", json={"inputs": "a"})
        assert refused.status_code == 503
        assert refused.headers["connection"] == "close"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)


def test_the_end_of_the_drain_is_an_answer_too(tmp_path: Path) -> None:
    settings = {"OSA_SERVER__DRAIN_TIMEOUT_S": "1"}
    with (
        running_server(tmp_path / "log", **settings) as (process, port),
        open_request(port, "/v1/embeddings") as slow,
    ):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"code":"unavailable"' in answer
    assert b"retry-after: " in answer
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_large_answer_reaches_a_slow_reader_through_the_drain(tmp_path: Path) -> None:
    body = json.dumps({"inputs": ["a"] * 2048}).encode()
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n".encode()
    with (
        running_server(tmp_path / "log") as (process, port),
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.sendall(head + body)
        received = slow.recv(1000)
        process.send_signal(signal.SIGTERM)
        time.sleep(3)
        while part := slow.recv(65536):
            received += part
        assert process.wait(timeout=PATIENCE_S) == 0
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])) == 2048


def run_osa(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OSA, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_a_start_that_cannot_work_says_why(tmp_path: Path) -> None:
    local = ("serve", "--host", "127.0.0.1", "--port", "0")
    missing = run_osa(*local, "--model", str(tmp_path / "nowhere"))
    assert missing.returncode == 2
    assert "nowhere is not a directory (nothing there)" in missing.stderr
    injected = run_osa(*local, OSA_PORT="tcp://10.0.0.1:80")
    assert injected.returncode == 2
    assert "enableServiceLinks" in injected.stderr
    contradiction = run_osa(*local, "--set", "batching.max_queue_tokens=5")
    assert contradiction.returncode == 2
    assert "Traceback" not in missing.stderr + injected.stderr + contradiction.stderr


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with running_server(tmp_path / "log") as (_, port):
        second = run_osa("serve", "--host", "127.0.0.1", "--port", str(port))
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in second.stderr
