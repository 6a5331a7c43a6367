"""A tiny task, recipe and cell."""

from __future__ import annotations

import torch

from benchmarks.quality.skipless.data import Split, Task
from benchmarks.quality.skipless.grid import Cell, Recipe

RECIPE = Recipe(steps=3, batch=4, log_every=1, probes=(0.0, 1.0))
CELL = Cell("digits", "osa-paper", "neither", 1)


def make_task() -> Task:
    split = Split(torch.randn(12, 4, 6), torch.arange(12) % 3)
    config: dict[str, object] = {"feature_size": 6, "positions": "learned", "max_seq_len": 4}
    return Task("digits", 3, config, split, split, split)
