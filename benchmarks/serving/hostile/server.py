"""The server under attack: with keys, quotas, and a log that nobody reads."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.serving.harness.corpus import MIXED, make_corpora
from benchmarks.serving.harness.launcher import RunningServer, free_port, run_server
from benchmarks.serving.harness.models import make_osa_model
from benchmarks.serving.harness.system_under_test import SystemUnderTest
from benchmarks.serving.hostile.connections import Grounds
from benchmarks.serving.hostile.directories import broken_directories
from benchmarks.serving.ours.setup import TEXTS, launch_of
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Launch, Peer, post

QUOTAS: dict[str, int | None] = {
    "ordinary": None,
    "stranger": 600_000,
    "greedy": 1_000,
    "operator": None,
}
"""Tokens a minute by holder of a key."""
DRAIN_S = 30.0
"""The server's ``drain_timeout_s``."""
KEEP_ALIVE_S, WRITE_TIMEOUT_S = 30, 15
"""The server's ``keep_alive_s`` and ``write_timeout_s``: hostile clients stay for ``HELD_S``, which
is longer than the first and than twice the second, after which a slow reader is let go at the
latest; ordinary ones leave no connection idle for long."""


@dataclass(frozen=True)
class Attacked:
    """A running server and what its clients know of it.

    Attributes:
        system: The server, for ordinary clients.
        grounds: The same, for hostile ones.
    """

    system: SystemUnderTest
    grounds: Grounds

    @property
    def server(self) -> RunningServer:
        """The running server."""
        return self.system.server


@contextlib.contextmanager
def attacked_server(directory: Path, log: Path | None = None) -> Iterator[Attacked]:
    """Start a server with keys and quotas.

    Args:
        directory: Folder of the model, the keys and the broken directories.
        log: File for its log; None is a pipe that is never read.
    """
    model = make_osa_model(directory).absolute()
    keys = {holder: "osa-" + secrets.token_urlsafe(24) for holder in QUOTAS}
    file = directory.absolute() / "keys.toml"
    file.unlink(missing_ok=True)  # an earlier run may have ended while it was a FIFO
    file.write_text("\n".join(_entry(holder, key) for holder, key in keys.items()))
    corpora = make_corpora("osa", model, (), TEXTS)
    broken = broken_directories(directory.absolute() / "broken", model / "checkpoint")
    peer, launch = _with_key(PEERS["osa"], keys["ordinary"], file), launch_of(model, free_port())
    with run_server(peer, launch, log) as server:
        system = SystemUnderTest(server, corpora)
        yield Attacked(system, Grounds(server.port, keys, file, broken, corpora[MIXED].texts))


def _with_key(peer: Peer, key: str, file: Path) -> Peer:
    """The server with a keys file, asked with a key."""

    def command(launch: Launch) -> list[str]:
        settings = (
            f"auth.keys_file={file}",
            f"server.drain_timeout_s={DRAIN_S}",
            f"server.keep_alive_s={KEEP_ALIVE_S}",
            f"server.write_timeout_s={WRITE_TIMEOUT_S}",
        )
        return [*peer.command(launch), *(part for one in settings for part in ("--set", one))]

    request = post("/embed", lambda text: {"inputs": text}, ("Authorization", f"Bearer {key}"))
    return replace(peer, command=command, request=request)


def _entry(holder: str, key: str) -> str:
    quota = QUOTAS[holder]
    lines = [
        "[[keys]]",
        f'name = "{holder}"',
        f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"',
        *([] if quota is None else [f"tokens_per_minute = {quota}"]),
        *(["admin = true"] if holder == "operator" else []),
    ]
    return "\n".join(lines) + "\n"
