"""A server of its own that takes documents of millions of tokens, and texts for it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import httpx

from benchmarks.serving.harness.launcher import free_port


class Served(NamedTuple):
    """A running server.

    Attributes:
        client: For its address.
        process: Its number.
    """

    client: httpx.Client
    process: int


@contextmanager
def server(*settings: str) -> Iterator[Served]:
    """A server with the packaged model; it ends with the block.

    Raises:
        RuntimeError: It does not start.
    """
    port = free_port()
    wanted = [
        "server.host=127.0.0.1", "log.level=error", "model.max_input_length=20000000",
        "server.payload_limit=200000000", "server.answer_limit=200000000",
        "documents.max_tokens=20000000", *settings,
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
            yield Served(client, process.pid)
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
