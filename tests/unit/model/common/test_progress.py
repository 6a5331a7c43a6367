"""Progress in logs: at most one line per interval, and none for short work."""

from __future__ import annotations

import os
import pty
import re
import termios

import pytest

from osa.model.common.progress import Progress


def test_a_log_gets_lines_with_count_total_and_note(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("embedding", "texts", 4, initial=1, interval_s=0) as progress:
        assert list(progress.track("ab")) == ["a", "b"]
        progress.update(1, "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "embedding: 2 of 4 texts",
        "embedding: 3 of 4 texts",
        "embedding: 4 of 4 texts",
    ], "the last one once"
    assert lines[-1].endswith("/s, loss 0.5")
    assert progress.done == 4


def test_lines_say_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", "updates", interval_s=0) as progress:
        progress.update()
        progress.expect(1_000_000_000)
        progress.update()
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert re.search(r"2 of 1000000000 updates, .*/s, (\d+ days?, )?\d+:\d\d:\d\d left", second)


def test_what_is_quick_or_disabled_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("embedding", "texts", interval_s=3600) as progress:
        progress.update(1000)
    with Progress("embedding", "texts", enabled=False, interval_s=0) as progress:
        progress.update()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with Progress("embedding", "texts", 2) as progress:
            progress.update(2, "quick")
            progress.write("skipped one")
        terminal.write("the end")
        terminal.flush()
        monkeypatch.undo()
        shown = ""
        while not shown.endswith("the end"):
            shown += os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "embedding: 100%" in shown
    assert "skipped one" in shown
    assert "2/2" in shown
