"""Plots of the kernel benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kernels.cases import Case
from benchmarks.kernels.plots import series, write_plots
from benchmarks.kernels.speed import Speed
from tests.unit.benchmarks.kernels.conftest import CASE, LONG, make_results, timing


def test_a_line_has_the_fuller_batch_of_a_length() -> None:
    full = Case(32, 8, "float32", budget=8192)
    speeds = [Speed(case, {"osa": timing(1.0)}) for case in (full, CASE, LONG)]
    lengths, values = series(speeds, 32, "float32", "osa", lambda speed, _: speed.case.tokens)
    assert (lengths, values) == ([8, 32768], [8192, 32768])


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra 'bench'")
    files = write_plots(make_results().speeds, tmp_path, "kernels")
    assert [file.name for file in files] == ["kernels_time.svg", "kernels_ratio.svg"]
    first = files[0].read_bytes()
    assert b"<svg" in first
    write_plots(make_results().speeds, tmp_path, "kernels")
    assert files[0].read_bytes() == first
