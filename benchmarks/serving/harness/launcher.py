"""Starts a server, waits for its first answer, and ends it with all its child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.harness.connection import Connection, ProtocolError
from benchmarks.serving.harness.process_tree import ProcessTree
from benchmarks.serving.peers.base import ROOT, Launch, Peer
from benchmarks.serving.peers.environments import PeerUnavailable, last_lines

NUMERICAL = ("OMP_", "MKL_", "ONEDNN_", "ATEN_")
"""Prefixes of variables that this process has set for itself and servers do not inherit."""
START_LIMIT_S, STOP_LIMIT_S, POLL_S = 300.0, 20.0, 0.05
FIRST_TEXT = "the first text"


@dataclass(frozen=True)
class RunningServer:
    """A running server.

    Attributes:
        peer: Its description.
        port: Port on this machine.
        tree: Its processes.
        cold_start_s: Time from start to first answer, with files in the page cache [s].
        cold_start_cpu_s: CPU time until then [s].
        process: Its first process.
    """

    peer: Peer
    port: int
    tree: ProcessTree
    cold_start_s: float
    cold_start_cpu_s: float
    process: subprocess.Popen[bytes]

    def end(self, within_s: float) -> float | None:
        """Send SIGTERM; returns the time until the process has ended [s], or None if it has not."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - began


def free_port(wanted: int = 0) -> int:
    """A free port; the next two are free as well.

    Args:
        wanted: The port; 0 for any.

    Raises:
        OSError: No such port was found, or the wanted ones are taken.
    """
    for _ in range(1 if wanted else 100):
        with contextlib.ExitStack() as stack:
            three = [stack.enter_context(socket.socket()) for _ in range(3)]
            try:
                for place, one in enumerate(three):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                    first = three[0].getsockname()[1] if place else wanted
                    one.bind(("127.0.0.1", first + place))
            except (OSError, OverflowError):
                continue
            port: int = three[0].getsockname()[1]
            return port
    which = f"ports {wanted} to {wanted + 2} are not" if wanted else "no three ports in a row are"
    raise OSError(f"{which} free")


def end_on_sigterm() -> None:
    """Turn SIGTERM of this process into an exception, so that its servers are ended too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextlib.contextmanager
def run_server(peer: Peer, launch: Launch, log: Path | None) -> Iterator[RunningServer]:
    """Start a server and wait for its first answer; all its processes are ended on exit.

    Args:
        peer: Description of the server.
        launch: Interpreter, models and port.
        log: File for its output; None is a pipe that is never read.

    Raises:
        PeerUnavailable: It ended or did not answer within ``START_LIMIT_S``; with its last output.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(NUMERICAL)
    }
    environment |= {"TOKENIZERS_PARALLELISM": "false", **peer.environment(launch)}
    with _output(log) as output:
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
            yield RunningServer(peer, launch.port, tree, took_s, tree.cpu_s(), process)
        finally:
            _end(process)


@contextlib.contextmanager
def _output(log: Path | None) -> Iterator[int]:
    """Descriptor that a server writes its output to."""
    if log is None:
        reading, writing = os.pipe()
        try:
            yield writing
        finally:
            os.close(reading)
            os.close(writing)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        yield file.fileno()


async def _first_answer(
    peer: Peer, port: int, process: subprocess.Popen[bytes], log: Path | None
) -> None:
    request = peer.request(FIRST_TEXT)
    last, connection = "nothing listens", Connection(port)
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while process.poll() is None:
                with contextlib.suppress(OSError, ProtocolError):
                    reply = await connection.send(request)
                    connection.close()
                    if reply.status == 200:
                        return
                    last = f"status {reply.status}: {reply.body[:200]!r}"
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise PeerUnavailable(f"no answer within {START_LIMIT_S:.0f} s ({last})") from None
    said = "" if log is None else last_lines(log.read_text(errors="replace"))
    raise PeerUnavailable(f"ended with exit code {process.returncode}:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the server, then SIGKILL to the rest of its session."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
