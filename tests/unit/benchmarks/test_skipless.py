"""The depth benchmark: one tiny cell end to end, resumed; choice of rates; tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.quality.skipless import results
from benchmarks.quality.skipless.cells import RATES, Cell, Recipe, Run, Study, grid, starts
from benchmarks.quality.skipless.data import Split, Task, patches
from benchmarks.quality.skipless.plots import write_plots
from benchmarks.quality.skipless.report import Report, findings_of, render, to_json
from benchmarks.quality.skipless.results import Cache, chosen_rate, next_rate, summarize, sweep
from benchmarks.quality.skipless.runs import Classifier, orthogonal_start, rate_at, train
from osa.model.layers.block import FeedForward

RECIPE = Recipe(steps=3, batch=4, log_every=1, probes=(0.0, 1.0))
CELL = Cell("digits", "osa-paper", "neither", 1)


def make_task() -> Task:
    split = Split(torch.randn(12, 4, 6), torch.arange(12) % 3)
    config: dict[str, object] = {"feature_size": 6, "positions": "learned", "max_seq_len": 4}
    return Task("digits", 3, config, split, split, split)


def fake(validation: float, loss: float = 1.0, diverged: bool = False) -> dict[str, Any]:
    return {"validation": validation, "test": validation, "loss": loss, "diverged": diverged}


def test_a_run_trains_and_measures_what_the_report_needs() -> None:
    task = make_task()
    result = train(Run(CELL, 1e-3, seed=1), task, RECIPE)
    assert result["curve"]["step"] == [0, 1, 2]
    assert result["curve"]["first"] == result["curve"]["last"], "there is one block"
    assert sorted(result["jacobian"]) == ["0", "3"]
    start = result["jacobian"]["0"]
    assert 1.0 <= start["largest"] / start["smallest"] < 5.0
    assert len(result["layers"]["3"]["effective_rank"]) == 2
    assert 0.0 <= result["test"] <= 1.0
    assert not result["diverged"]
    assert json.loads(json.dumps(result)) == result
    again = train(Run(CELL, 1e-3, seed=1), task, RECIPE)
    assert again["curve"] == result["curve"]


def test_a_run_that_blows_up_says_so() -> None:
    result = train(Run(CELL, 1e30, seed=0), make_task(), RECIPE)
    assert result["diverged"]
    assert not result["jacobian"], "this seed is not probed"


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


def test_the_rate_rises_and_falls_to_zero() -> None:
    recipe = Recipe(steps=100, warmup=0.1)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert 0.0 < rates[-1] < 0.02


def test_cells_have_names_of_their_own() -> None:
    cells = [*grid("mnist", (6, 12), ("skip", "neither")), *starts("mnist", 24)]
    assert len({cell.name for cell in cells}) == len(cells)
    assert CELL.name == "digits/osa-paper/neither/1"
    assert dataclasses.replace(CELL, alpha=0.2).name.endswith("/alpha=0.2")


def test_patches_keep_neighbours_together() -> None:
    images = torch.arange(2 * 4 * 4).view(2, 4, 4).float()
    cut = patches(images, 2)
    assert cut.shape == (2, 4, 4)
    back = cut * images.std() + images.mean()
    torch.testing.assert_close(back[0, 1], torch.tensor([2.0, 3.0, 6.0, 7.0]))


def test_the_orthogonal_start_is_not_mirrored() -> None:
    task, generator = make_task(), torch.Generator().manual_seed(0)
    model = Classifier(CELL.config(task), task.classes, generator)
    orthogonal_start(model.encoder, generator)
    (layer,) = (part for part in model.modules() if isinstance(part, FeedForward))
    upper, lower = layer.up.weight.chunk(2)
    assert float((upper + lower).abs().max().detach()) > 0.1
    product = layer.down.weight @ layer.down.weight.T
    torch.testing.assert_close(product, 2.0 * torch.eye(64), atol=1e-5, rtol=0)
