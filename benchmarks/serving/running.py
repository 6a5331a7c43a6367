"""A contender that runs: started, asked until it answers, watched, ended with all its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.connection import Connection, ProtocolError
from benchmarks.serving.peers.base import ROOT, Launch, Peer
from benchmarks.serving.peers.environments import PeerUnavailable, last_lines
from benchmarks.serving.process import ProcessTree

NUMERICAL = ("OMP_", "MKL_", "ONEDNN_", "ATEN_")
"""Beginnings of variables that this process has settled for itself; contenders choose their own."""
START_LIMIT_S, STOP_LIMIT_S, POLL_S = 300.0, 20.0, 0.05
FIRST_TEXT = "the first text"


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        peer: What it is.
        port: Where it listens.
        tree: Its processes.
        cold_start_s: From its start to its first answer, files in the page cache [s].
        cold_start_cpu_s: CPU time of that [s].
    """

    peer: Peer
    port: int
    tree: ProcessTree
    cold_start_s: float
    cold_start_cpu_s: float


def free_port() -> int:
    """A port whose two followers are free as well.

    Raises:
        OSError: None was found.
    """
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for follower in (port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", follower))
            except (OSError, OverflowError):
                continue
            return port
    raise OSError("no three ports in a row are free")


@contextlib.contextmanager
def run_server(peer: Peer, launch: Launch, log: Path) -> Iterator[RunningServer]:
    """Start a contender and wait for its first answer; afterwards its processes are gone.

    Raises:
        PeerUnavailable: It ended, or did not answer within ``START_LIMIT_S``; with its last lines.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(NUMERICAL)
    }
    environment |= {"TOKENIZERS_PARALLELISM": "false", **peer.environment(launch)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            peer.command(launch),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            tree = ProcessTree(process.pid)
            asyncio.run(_first_answer(peer, launch.port, process, log))
            took_s = time.monotonic() - began
            yield RunningServer(peer, launch.port, tree, took_s, tree.cpu_s())
        finally:
            _end(process)


async def _first_answer(peer: Peer, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    request = peer.request(FIRST_TEXT)
    said, connection = "nothing listens", Connection(port)
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while process.poll() is None:
                with contextlib.suppress(OSError, ProtocolError):
                    reply = await connection.send(request)
                    connection.close()
                    if reply.status == 200:
                        return
                    said = f"status {reply.status}: {reply.body[:200]!r}"
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise PeerUnavailable(f"no answer within {START_LIMIT_S:.0f} s ({said})") from None
    raise PeerUnavailable(
        f"ended with exit code {process.returncode}:\n{last_lines(log.read_text(errors='replace'))}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then end what is left of its session."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
