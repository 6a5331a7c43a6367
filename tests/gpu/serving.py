"""A step that runs the server under load: what share of the time the device computes."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.gpu.steps import Figures

TEXT = "a text of some fifty tokens that a client wants to have embedded, " * 4
INPUTS = 32
"""Of a request."""


def _call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _client(port: int, seconds: float, number: int, counts: Any) -> None:
    """Requests one after the other on one connection; counts those answered and others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    texts = [f"{number} {place} {TEXT}" for place in range(INPUTS)]
    body = json.dumps({"inputs": texts, "truncate": True}).encode()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        with counts.get_lock():
            counts[0 if answer.status == 200 else 1] += 1


def _sample(port: int, name: str) -> float:
    text = _call(port, "GET", "/metrics")[1].decode()
    found = re.search(rf"^{name}(?:\{{[^}}]*\}})? ([-+.\deE]+)$", text, re.M)
    return float(found[1]) if found else 0.0


def server(device: str) -> Figures:
    """``osa serve`` with many clients: inputs a second, and busy time over time."""
    seconds, clients = (30.0, 12) if device == "cuda" else (3.0, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = {**os.environ, "OSA_MODEL__DEVICE": device, "OSA_SERVER__PORT": str(port)}
        command = [sys.executable, "-m", "osa.service.cli", "serve", "--host", "127.0.0.1"]
        with log.open("wb") as errors:
            process = subprocess.Popen(command, env=environment, stderr=errors)
        try:
            started = time.monotonic()
            while not _is_ready(port):
                assert process.poll() is None, log.read_text()[-1500:]
                time.sleep(0.1)
            ready_s = time.monotonic() - started
            counts = multiprocessing.Array("l", 2)
            before = [_sample(port, name) for name in _NAMES]
            began = time.monotonic()
            workers = [
                multiprocessing.Process(target=_client, args=(port, seconds, number, counts))
                for number in range(clients)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            wall = time.monotonic() - began
            busy, tokens = (
                _sample(port, name) - first for name, first in zip(_NAMES, before, strict=True)
            )
            info = json.loads(_call(port, "GET", "/info")[1])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        selected = [line for line in log.read_text().splitlines() if "engine selected" in line]
    yield {
        "name": "load", "ready_s": ready_s, "seconds": wall, "answered": counts[0],
        "others": counts[1], "inputs_per_s": counts[0] * INPUTS / wall,
        "tokens_per_s": tokens / wall, "busy_share": busy / wall,
        "batch_invariant": info.get("batch_invariant"), "selected": selected[:1],
    }  # fmt: skip
    assert counts[0] > 0
    assert counts[1] == 0, "requests were refused or failed"


_NAMES = ("osa_engine_busy_seconds_total", "osa_computed_tokens_total")


def _is_ready(port: int) -> bool:
    try:
        return _call(port, "GET", "/readyz")[0] == 200
    except OSError:
        return False
