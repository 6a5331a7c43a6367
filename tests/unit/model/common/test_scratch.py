"""Without a temporary directory that can be written, the message says what to do."""

from __future__ import annotations

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
