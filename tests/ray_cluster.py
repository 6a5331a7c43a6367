"""A Ray cluster of this machine, in processes of its own, for tests of runs on Ray."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PATIENCE_S, free_port

STORE_BYTES = 80 << 20
"""Object store: about the least that Ray takes."""
OPEN = {"RAY_AUTH_MODE": "disabled"}
"""Without a token, which Ray's own command would make in the user's home."""
MARK = "TEST_RAY_CLUSTER"
"""Variable by which processes of a cluster are known."""
ACTOR = b"ray::MapWorker(MapBatches(EmbedWorker))"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    address: str
    directory: Path

    def workers(self) -> list[int]:
        """Processes of actors that embed."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(ACTOR):
                    mark = f"{MARK}={self.directory}".encode()
                    ours = mark in (entry / "environ").read_bytes()
                    found += [int(entry.name)] * ours
        return found

    def spilled(self) -> list[Path]:
        """Objects that did not fit the store."""
        return [one for one in self.directory.rglob("*spilled_objects*/*") if one.is_file()]


@contextmanager
def running_cluster(cpus: int = 4, **environment: str) -> Iterator[Cluster]:
    """Start a cluster; it ends with the block.

    Args:
        cpus: Cores that it believes to have.
        environment: Variables of its workers.
    """
    directory = Path(tempfile.mkdtemp(prefix="osa-ray-"))  # its sockets need a short path
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += ["--node-ip-address", "127.0.0.1", "--port", address.rpartition(":")[2]]
    command += ["--num-cpus", str(cpus), "--object-store-memory", str(STORE_BYTES)]
    command += ["--include-dashboard", "false", "--temp-dir", str(directory)]
    command += ["--disable-usage-stats"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **OPEN, MARK: str(directory), "RAY_worker_niceness": "0", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, address)
        yield Cluster(address, directory)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    probe = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    deadline = time.monotonic() + PATIENCE_S
    while subprocess.run(probe, env={**os.environ, **OPEN}, capture_output=True).returncode:
        assert process.poll() is None, "the cluster ended"
        assert time.monotonic() < deadline, "the cluster never came up"
        time.sleep(0.2)
