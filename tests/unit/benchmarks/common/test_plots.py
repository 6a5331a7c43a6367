"""Common functions of plots."""

from __future__ import annotations

import sys

import pytest

from benchmarks.common.plots import PlotsMissing, require_matplotlib


def test_plots_without_matplotlib_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsMissing, match=r"pip install -e '\.\[bench\]'"):
        require_matplotlib()
