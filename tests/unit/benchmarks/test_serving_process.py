"""Costs of real processes, environments, ports, and the command line."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving.__main__ import main
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.environments import (
    PeerUnavailable,
    environment_of,
    last_lines,
    run,
    versions_of,
)
from benchmarks.serving.process import ProcessTree, wait_until_quiet
from benchmarks.serving.running import free_port

BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
PARENT = f"""
import subprocess, sys
child = [sys.executable, "-c", {BURN!r}]
subprocess.run(child)
living = subprocess.Popen([*child[:2], child[2] + "print(flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
living.stdout.readline()
print("ready", flush=True)
input()
living.communicate(b"\\n")
"""


def test_a_tree_counts_children_that_live_and_children_that_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        tree = ProcessTree(parent.pid)
        assert len(tree.processes()) == 2
        assert tree.cpu_s() >= 0.7  # 0.4 s each, less what a clock tick may hide
        resident, proportional = tree.memory_bytes()
        assert resident >= proportional > 1e6
        parent.communicate(b"\n")
    assert tree.processes() == []


def test_waiting_for_rest_ends_when_the_clock_does() -> None:
    readings = iter([0.0, 1.0, 2.0, 3.0, 3.0])
    wait_until_quiet(lambda: next(readings), share=0.1, window_s=0.01, limit_s=5)
    assert next(readings, None) is None


def test_waiting_for_rest_gives_up() -> None:
    spent = iter(range(10_000))
    with pytest.raises(TimeoutError, match=r"busy after 0\.05 s"):
        wait_until_quiet(lambda: float(next(spent)), share=0.1, window_s=0.01, limit_s=0.05)


def test_the_ports_found_are_free() -> None:
    port = free_port()
    for place in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port + place))


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


def test_an_unknown_peer_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--peers", "osa,nobody"])
    assert "got nobody" in capsys.readouterr().err
