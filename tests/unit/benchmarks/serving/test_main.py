"""The command line."""

from __future__ import annotations

import pytest

from benchmarks.serving.__main__ import main


def test_an_unknown_peer_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--peers", "osa,nobody"])
    assert "got nobody" in capsys.readouterr().err
