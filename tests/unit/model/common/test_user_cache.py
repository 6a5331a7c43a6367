"""Where files are kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model.common.scratch import user_cache


@pytest.mark.parametrize("named", ["", "relative/cache"])
def test_the_cache_is_that_of_the_user(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert user_cache() == tmp_path / ".cache" / "osa-encoder"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert user_cache() == tmp_path / "elsewhere" / "osa-encoder"


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert user_cache() is None
