"""Latency of short requests beside a long document, in one server; rounds with and without.

Every round measures short requests alone, then the same beside a document, so that whatever else
the machine does meets both.
"""

from __future__ import annotations

import http.client
import json
import random
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import httpx

from benchmarks.common.report import progress
from benchmarks.serving.harness.launcher import free_port

PAUSE_S = 0.01
"""Between two short requests [s]."""


class Latencies(NamedTuple):
    """Of short requests [s].

    Attributes:
        median: Half take no longer.
        p99: 99 of 100 take no longer.
    """

    median: float
    p99: float


@contextmanager
def server(*settings: str) -> Iterator[httpx.Client]:
    """A server with the packaged model that takes documents of millions of tokens."""
    port = free_port()
    wanted = [
        "server.host=127.0.0.1", "log.level=error", "model.max_input_length=20000000",
        "server.payload_limit=200000000", "documents.max_tokens=20000000", *settings,
    ]  # fmt: skip
    options = [word for setting in wanted for word in ("--set", setting)]
    command = [sys.executable, "-m", "osa.service.cli", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None) as client:
            while not is_ready(client):
                time.sleep(0.2)
                if process.poll() is not None:
                    raise RuntimeError("the server did not start")
            yield client
    finally:
        process.terminate()
        process.wait()


def is_ready(client: httpx.Client) -> bool:
    """Whether the server answers."""
    with suppress(httpx.TransportError):
        return client.get("/health").status_code == 200
    return False


def text_of(words: int, generator: random.Random) -> str:
    """A text of so many short English words, each about one token."""
    known = "the cat sat on a mat and saw two men play old songs in the rain"
    return " ".join(generator.choice(known.split()) for _ in range(words))


def short_latencies(client: httpx.Client, count: int, generator: random.Random) -> list[float]:
    """Latency of requests one after the other [s]."""
    found = []
    for _ in range(count):
        body = {"inputs": text_of(24, generator)}
        began = time.perf_counter()
        client.post("/embed", json=body).raise_for_status()
        found.append(time.perf_counter() - began)
        time.sleep(PAUSE_S)
    return found


def summary(seconds: list[float]) -> Latencies:
    """Median and p99."""
    return Latencies(statistics.median(seconds), statistics.quantiles(seconds, n=100)[98])


def measure(tokens: int, rounds: int, count: int) -> list[tuple[Latencies, Latencies]]:
    """Latencies alone and beside a document, round by round.

    Args:
        tokens: Of the document, about; it is given up once a round is over.
        rounds: How many.
        count: Short requests of a round's half.
    """
    generator, found = random.Random(0), []
    document = json.dumps({"inputs": text_of(tokens, generator)})
    with server() as client:
        short_latencies(client, count, generator)
        for turn in range(rounds):
            alone = summary(short_latencies(client, count, generator))
            host, port = client.base_url.host, client.base_url.port
            other = http.client.HTTPConnection(host, port)
            other.request("POST", "/embed", document, {"content-type": "application/json"})
            time.sleep(2.0)
            beside = summary(short_latencies(client, count, generator))
            if select.select([other.sock], [], [], 0)[0]:
                raise RuntimeError("the document was done too early: take a longer one")
            other.close()
            time.sleep(1.0)
            found.append((alone, beside))
            progress(f"round {turn}: p99 {alone.p99 * 1e3:.1f} and {beside.p99 * 1e3:.1f} ms")
    return found
