"""Stored results: an interrupted sweep, the choice of learning rates, the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.skipless import results
from benchmarks.quality.skipless.data import Task
from benchmarks.quality.skipless.grid import RATES, Recipe, Run, Study
from benchmarks.quality.skipless.plots import write_plots
from benchmarks.quality.skipless.report import Report, findings_of, render, to_json
from benchmarks.quality.skipless.results import Cache, chosen_rate, next_rate, summarize, sweep
from benchmarks.quality.skipless.training import train
from tests.unit.benchmarks.quality.skipless.conftest import CELL, RECIPE, make_task


def fake(validation: float, loss: float = 1.0, diverged: bool = False) -> dict[str, Any]:
    return {"validation": validation, "test": validation, "loss": loss, "diverged": diverged}


def test_an_interrupted_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Run] = []

    def count(run: Run, task: Task, recipe: Recipe) -> dict[str, Any]:
        calls.append(run)
        return train(run, task, recipe)

    monkeypatch.setattr(results, "train", count)
    study, file = Study((CELL,), seeds=(0, 1)), tmp_path / "deep" / "results.jsonl"
    sweep(study, lambda _: make_task(), Cache(file, RECIPE), lambda _: None)
    assert len(calls) == 4
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:3]) + "\n" + lines[3][:50])  # cut off in the middle
    calls.clear()
    cache = Cache(file, RECIPE)
    sweep(study, lambda _: make_task(), cache, lambda _: None)
    assert [run.seed for run in calls] == [1]
    assert [len(one.results) for one in summarize(study, cache)] == [2]
    sweep(study, lambda _: make_task(), Cache(file, RECIPE), lambda _: None)
    assert len(calls) == 1
    (summary,) = summarize(study, cache)
    write_and_read(Report({"date": "2026-11"}, RECIPE, {"digits": [summary]}), cache, tmp_path)


def write_and_read(report: Report, cache: Cache, directory: Path) -> None:
    text = render(report, plots=True)
    assert "| osa-paper | neither |" in text
    assert "Condition number" in text
    assert findings_of(text) == ""
    found = dataclasses.replace(report, findings="Depth is no obstacle.\n\n- Here.")
    assert findings_of(render(found, plots=False)) == found.findings
    content = json.loads(to_json(report, cache))
    assert content["recipe"]["steps"] == 3
    assert len(content["runs"]) == 4
    pytest.importorskip("matplotlib", reason="plots need the extra 'bench'")
    files = write_plots(report, directory)
    assert all(f"({file.name})" in text and b"<svg" in file.read_bytes() for file in files)


@pytest.mark.parametrize(("better", "third"), [(1, RATES[0]), (2, RATES[3])])
def test_the_third_rate_is_beside_the_better_of_two(
    tmp_path: Path, better: int, third: float
) -> None:
    cache = Cache(tmp_path / "results.jsonl", RECIPE)
    for place in (1, 2):
        assert next_rate(cache, CELL, 0) == RATES[place]
        assert chosen_rate(cache, CELL, 0) is None
        cache.put(Run(CELL, RATES[place], 0), fake(0.9 if place == better else 0.8))
    assert next_rate(cache, CELL, 0) == third
    cache.put(Run(CELL, third, 0), fake(0.95, diverged=True))
    assert next_rate(cache, CELL, 0) is None
    assert chosen_rate(cache, CELL, 0) == RATES[better], "what diverged is not chosen"
