"""Each peer's own virtual environment, made by pip; and the versions in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.serving.peers.base import Peer

STAMP = "serving-peer.json"
"""Written last, so that a folder without it is not ready."""
READ_VERSIONS = (
    "import importlib.metadata as m, json, sys\n"
    "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
)
SHOWN_LINES = 6


class PeerUnavailable(Exception):
    """A peer cannot be installed or started here; the message says why."""


def environment_of(peer: Peer, folder: Path) -> Path:
    """The interpreter that runs a peer, in an environment made now unless it is there.

    Args:
        peer: The contender; ours runs in this interpreter.
        folder: Where the environments of all peers are.

    Raises:
        PeerUnavailable: pip could not install it; with the last lines that it printed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    home = (folder / peer.venv).absolute()
    python, stamp = home / "bin" / "python", home / STAMP
    wanted = {"requirements": peer.requirements, "removed": peer.removed}
    if stamp.is_file() and json.loads(stamp.read_text()) == json.loads(json.dumps(wanted)):
        return python
    run([sys.executable, "-m", "venv", str(home)])
    run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements])
    if peer.removed:
        run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *peer.removed])
    stamp.write_text(json.dumps(wanted))
    return python


def run(command: list[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        PeerUnavailable: It failed; with the last lines of its errors.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise PeerUnavailable(last_lines(error.stderr or error.stdout)) from error
    except OSError as error:
        raise PeerUnavailable(str(error)) from error
    return done.stdout


def last_lines(text: str) -> str:
    """The end of what a program printed, without pip's warnings and empty lines."""
    lines = [line for line in text.splitlines() if line.strip() and "WARNING" not in line]
    return "\n".join(lines[-SHOWN_LINES:])


def versions_of(peer: Peer, python: Path) -> dict[str, str]:
    """Versions of the packages that the report names for a peer."""
    names = [name.partition("[")[0].partition("=")[0] for name in peer.packages]
    if not peer.requirements:
        own = {name: _own_version(name) for name in names}
        return {name: its for name, its in own.items() if its is not None}
    found: dict[str, str] = json.loads(run([str(python), "-c", READ_VERSIONS, *names]))
    return found


def _own_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
