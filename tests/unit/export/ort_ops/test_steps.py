"""Parallel commands: their output, and the effect of a failure on the others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from osa.export.errors import ExportError
from osa.export.ort_ops.steps import Step, run_steps


def python(name: str, code: str, folder: Path | None = None) -> Step:
    return Step(name, [sys.executable, "-c", code], folder)


def test_a_step_is_told_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    told: list[str] = []
    run_steps([python("writing", "open('made', 'w').close()", tmp_path)], told.append)
    assert (tmp_path / "made").exists()
    assert told[0] == "writing ..."
    assert re.fullmatch(r"writing: \d+\.\d s", told[-1])


def test_what_still_runs_is_told_while_nothing_else_happens(tmp_path: Path) -> None:
    go = tmp_path / "go"
    told: list[str] = []

    def hear(line: str) -> None:
        told.append(line)
        if sum(heard.startswith("still waiting (") for heard in told) == 2:
            go.touch()

    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    run_steps([python("waiting", wait)], hear, beat_s=0.05)
    assert [line for line in told if re.fullmatch(r"still waiting \(\d+ s\)", line)]
    assert told[-1].startswith("waiting: ")


def test_a_failure_is_told_with_its_output_and_stops_the_others() -> None:
    steps = [
        python("failing", "import sys; print('no such header'); sys.exit(3)"),
        python("endless", "import time\nwhile True: time.sleep(0.01)"),
        python("late", "raise SystemExit('must not be what is told')"),
    ]
    with pytest.raises(ExportError, match=r"^failing failed: .*\nno such header"):
        run_steps(steps)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(ExportError, match="/nowhere/cc cannot be run: No such file"):
        run_steps([Step("compiling", ["/nowhere/cc"])])
