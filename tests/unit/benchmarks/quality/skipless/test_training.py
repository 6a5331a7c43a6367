"""Training of one run."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.quality.skipless.grid import Recipe, Run
from benchmarks.quality.skipless.training import Classifier, orthogonal_start, rate_at, train
from osa.model.layers.block import FeedForward
from tests.unit.benchmarks.quality.skipless.conftest import CELL, RECIPE, make_task


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


def test_the_rate_rises_and_falls_to_zero() -> None:
    recipe = Recipe(steps=100, warmup=0.1)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert 0.0 < rates[-1] < 0.02


def test_the_orthogonal_start_is_not_mirrored() -> None:
    task, generator = make_task(), torch.Generator().manual_seed(0)
    model = Classifier(CELL.config(task), task.classes, generator)
    orthogonal_start(model.encoder, generator)
    (layer,) = (part for part in model.modules() if isinstance(part, FeedForward))
    upper, lower = layer.up.weight.chunk(2)
    assert float((upper + lower).abs().max().detach()) > 0.1
    product = layer.down.weight @ layer.down.weight.T
    torch.testing.assert_close(product, 2.0 * torch.eye(64), atol=1e-5, rtol=0)
