"""CPU time and memory of real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.serving.harness.process_tree import ProcessTree, wait_until_idle

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


def test_waiting_for_idle_ends_when_the_clock_does() -> None:
    readings = iter([0.0, 1.0, 2.0, 3.0, 3.0])
    wait_until_idle(lambda: next(readings), share=0.1, window_s=0.01, limit_s=5)
    assert next(readings, None) is None


def test_waiting_for_idle_gives_up() -> None:
    spent = iter(range(10_000))
    with pytest.raises(TimeoutError, match=r"busy after 0\.05 s"):
        wait_until_idle(lambda: float(next(spent)), share=0.1, window_s=0.01, limit_s=0.05)
