"""A virtual environment per peer, installed by pip, and the versions in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.serving.peers.base import Peer

STAMP = "serving-peer.json"
"""Written last: a folder without it is incomplete."""
READ_VERSIONS = (
    "import importlib.metadata as m, json, sys\n"
    "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
)
SHOWN_LINES = 6


class PeerUnavailable(Exception):
    """A server cannot be installed or started; the message says why."""


def environment_of(peer: Peer, folder: Path) -> Path:
    """Interpreter of a server's environment, which is created unless it exists.

    Args:
        peer: The server; without requirements it runs in this interpreter.
        folder: Folder of all environments.

    Raises:
        PeerUnavailable: pip failed; with its last lines of output.
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
    """Run a command; returns its standard output.

    Raises:
        PeerUnavailable: It failed; with its last lines of output.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise PeerUnavailable(last_lines(error.stderr or error.stdout)) from error
    except OSError as error:
        raise PeerUnavailable(str(error)) from error
    return done.stdout


def last_lines(text: str) -> str:
    """The last lines of a program's output, without warnings and empty lines."""
    lines = [line for line in text.splitlines() if line.strip() and "WARNING" not in line]
    return "\n".join(lines[-SHOWN_LINES:])


def versions_of(peer: Peer, python: Path) -> dict[str, str]:
    """Versions of a server's packages, by name.

    Raises:
        PeerUnavailable: The interpreter failed.
    """
    names = [name.partition("[")[0].partition("=")[0] for name in peer.packages]
    if not peer.requirements:
        own = {name: _own_version(name) for name in names}
        return {name: found for name, found in own.items() if found is not None}
    found: dict[str, str] = json.loads(run([str(python), "-c", READ_VERSIONS, *names]))
    return found


def _own_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
