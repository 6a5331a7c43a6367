"""Medians and ratios over rounds, and the file of results."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from benchmarks.serving.harness.results import Results


def test_a_ratio_is_the_median_over_rounds_and_not_of_medians(results: Results) -> None:
    assert results.cost_ratio("osa", "mosec", 32) == 0.5  # of 0.25, 0.5, 0.75
    assert results.median("osa", lambda one: one.costs[32].cpu_ms) == 3.0
    assert math.isnan(results.cost_ratio("osa", "nobody", 32))


def test_a_round_that_failed_does_not_spoil_the_others(results: Results) -> None:
    lost = dataclasses.replace(results.by_server["mosec"][1].costs[32], cpu_ms=math.nan)
    results.by_server["mosec"][1].costs[32] = lost
    assert results.cost_ratio("osa", "mosec", 32) == 0.5  # of 0.25 and 0.75
    assert results.median("mosec", lambda one: one.costs[32].cpu_ms) == 6.0


def test_results_are_written_whole(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.json"
    results.save(path)
    content = json.loads(path.read_text())
    assert content["by_server"]["osa"][0]["costs"]["32"]["cpu_ms"] == 2.0
    assert content["unavailable"] == results.unavailable
    assert [one.name for one in path.parent.iterdir()] == ["run.json"]
