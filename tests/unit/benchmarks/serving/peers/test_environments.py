"""Virtual environments of the peers."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.environments import (
    PeerUnavailable,
    environment_of,
    last_lines,
    run,
    versions_of,
)


def test_an_install_that_fails_says_why(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-package")
    peer = dataclasses.replace(PEERS["mosec"], venv="broken", requirements=(missing,))
    with pytest.raises(PeerUnavailable, match="no-such-package"):
        environment_of(peer, tmp_path)
    assert not (tmp_path / "broken" / "serving-peer.json").exists()


def test_a_finished_environment_is_used_again_and_a_changed_one_is_not(tmp_path: Path) -> None:
    peer = dataclasses.replace(
        PEERS["mosec"], venv="made", requirements=("--no-deps", "pip"), packages=("pip",)
    )
    python = environment_of(peer, tmp_path)
    assert versions_of(peer, python).keys() == {"pip"}
    marker = tmp_path / "made" / "pyvenv.cfg"
    before = marker.stat().st_mtime_ns
    assert environment_of(peer, tmp_path) == python
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(PeerUnavailable):
        environment_of(dataclasses.replace(peer, requirements=(str(tmp_path / "no"),)), tmp_path)


def test_our_own_server_runs_in_this_environment(tmp_path: Path) -> None:
    assert environment_of(PEERS["osa"], tmp_path) == Path(sys.executable)
    assert "osa-encoder" in versions_of(PEERS["osa"], Path(sys.executable))
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_cannot_run_says_why() -> None:
    with pytest.raises(PeerUnavailable, match="the reason"):
        run([sys.executable, "-c", "raise SystemExit('the reason')"])
    with pytest.raises(PeerUnavailable, match="No such file"):
        run(["/no/such/program"])


def test_the_end_of_a_log_is_without_noise() -> None:
    text = "first\nWARNING: x\n\n" + "\n".join(f"line {number}" for number in range(9))
    assert last_lines(text).splitlines() == [f"line {number}" for number in range(3, 9)]
