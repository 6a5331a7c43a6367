"""``osa serve`` as a process of its own, for tests of every level that need one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.conftest import free_port, wait_until

OSA = [sys.executable, "-m", "osa.service.cli"]
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from osa.service.cli import main; sys.exit(main())",
]
"""``osa``, which SIGINT ends also where the tests were started in the background of a shell."""


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running_server(
    log: Path, osa: Sequence[str] = OSA, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start ``osa serve`` with default settings on a free port; yields process and port.

    Args:
        log: File for its standard error.
        osa: The command ``osa``.
        settings: Variables of its environment.
    """
    port = free_port()
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "2"}
    command = [*osa, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(port))
        assert process.poll() is None, log.read_text()
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
