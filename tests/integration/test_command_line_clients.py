"""curl, Java's HttpClient, and the bytes that the latter sends."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import PATIENCE_S

TEXTS = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "é 漢字 🎸"]
BODY = json.dumps({"inputs": TEXTS})


@pytest.fixture
def url(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


@pytest.fixture(scope="module")
def vectors(client: httpx.Client) -> np.ndarray:
    answer = client.post("/embed", content=BODY, headers={"content-type": "application/json"})
    return np.array(answer.json(), dtype=np.float32)


def same(given: Any, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.array(given, dtype=np.float32), expected)


def run(*command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(url: str, vectors: np.ndarray) -> None:
    quiet = ("curl", "-sS", "--noproxy", "*")
    json_type = ("-H", "Content-Type: application/json")
    same(json.loads(run(*quiet, f"{url}/embed", *json_type, "-d", BODY)), vectors)
    large = json.dumps({"inputs": TEXTS * 100})
    chunked = (*json_type, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue")
    same(json.loads(run(*quiet, f"{url}/embed", *chunked, "-d", large))[:3], vectors)
    same(json.loads(run(*quiet, "--http2", f"{url}/embed", *json_type, "-d", BODY)), vectors)
    assert run(*quiet, "-o", "/dev/null", "-w", "%{http_code}", f"{url}/nowhere") == "404"


def test_java(url: str, vectors: np.ndarray) -> None:
    program = str(Path(__file__).with_name("Embed.java"))
    answers = run("java", "-XX:TieredStopAtLevel=1", program, f"{url}/embed", BODY).splitlines()
    assert len(answers) == 2
    for answer in answers:
        status, _, body = answer.partition(" ")
        assert status == "200"
        same(json.loads(body), vectors)


def test_the_bytes_that_java_sends(url: str, vectors: np.ndarray) -> None:
    """Recorded from JDK 17; where there is no Java this stands for it."""
    host, _, port = url.removeprefix("http://").partition(":")
    content = BODY.encode()
    head = (
        "POST /embed HTTP/1.1\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\n"
        f"Content-Length: {len(content)}\r\n"
        f"Host: {host}:{port}\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
        "Upgrade: h2c\r\n"
        "User-Agent: Java-http-client/17.0.15\r\n"
        "Content-Type: application/json\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 30) as wire:
        wire.sendall(head.encode())
        wire.sendall(content)
        answer = b""
        while not answer.endswith(b"]]"):
            part = wire.recv(65536)
            assert part, answer[:500]
            answer += part
    status, _, body = answer.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 200")
    same(json.loads(body), vectors)
