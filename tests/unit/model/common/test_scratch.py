"""Without a temporary directory that can be written, the message says what to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from osa.model.common.scratch import scratch_directory
from osa.model.errors import ConfigError


def test_a_scratch_directory_is_private_and_goes_again() -> None:
    with scratch_directory("a test") as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o700
        (scratch / "file").touch()
    assert not scratch.exists()


def test_the_variable_to_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    named = tmp_path / "file" / "missing"
    monkeypatch.setenv("TMPDIR", str(named))
    monkeypatch.setattr(tempfile, "tempdir", str(named))
    with pytest.raises(ConfigError) as caught, scratch_directory("an int8 export"):
        pass
    line = str(caught.value)
    assert "an int8 export needs a temporary directory" in line
    assert f"(TMPDIR is {named}" in line
    assert line.endswith("set TMPDIR to one")
    assert "\n" not in line


NOWHERE = """
import os, sys, tempfile
tempfile._candidate_tempdir_list = lambda: [os.environ["TMPDIR"]]
from osa.service.cli import main
sys.exit(main(["verify", sys.argv[1]]))
"""


def test_a_command_without_one_works_or_says_so_in_a_line(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether torch itself needs one depends on what is installed beside it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    command = [sys.executable, "-c", NOWHERE, str(tiny_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.startswith("osa: this command needs a temporary directory that can be")
        assert done.stderr.endswith("set TMPDIR to one\n")
