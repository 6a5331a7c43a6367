"""How a system starts, and whether it trains with and without skips: small encoders alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.quality.skipless.data import TASKS, Task
from benchmarks.quality.skipless.grid import WIRINGS, Cell, Recipe, Run
from benchmarks.quality.skipless.training import train
from benchmarks.systems.systems import System
from osa.model import Encoder, EncoderConfig
from osa.model.diagnostics import jacobian_condition
from osa.model.errors import OsaError

WIDTH, TOKENS = 64, 6
SMALL: dict[str, Any] = {"hidden_size": WIDTH, "num_layers": 3, "num_heads": 4, "ffn_size": 256}
RATE = 3e-3


def condition(system: System) -> float:
    """Condition of the Jacobian of three blocks at the start, for 6 tokens of width 64."""
    generator = torch.Generator().manual_seed(0)
    config = system.config({**SMALL}, feature_size=WIDTH)
    inputs = torch.randn(1, TOKENS, WIDTH, generator=generator)
    return jacobian_condition(Encoder(config, generator), inputs)


@dataclass(frozen=True)
class SystemCell(Cell):
    """The cell of a grid of digits for a system, with its own residual rule.

    Attributes:
        changes: Fields that the system changes.
    """

    changes: tuple[tuple[str, Any], ...] = ()

    def config(self, task: Task) -> EncoderConfig:
        """The configuration of this depth, as the system changes it."""
        sizes = {**SMALL, "num_layers": self.depth, **WIRINGS[self.wiring]}
        values = {**sizes, **task.config, **dict(self.changes)}
        return EncoderConfig.from_dict(values)


def digits(system: System, skips: bool, seed: int, updates: int, depth: int) -> float | None:
    """Accuracy on scikit-learn's digits; None where the system has no such form.

    Args:
        system: The system; one with a rule of its own has no other one.
        skips: With skips and norms, or with neither.
        seed: Of weights and batches.
        updates: Number of them.
        depth: Number of blocks.
    """
    if not skips and "residual" in system.changes:
        return None
    own = {name: value for name, value in system.changes.items() if "bottleneck" not in name}
    own.pop("matryoshka_dims", None)
    wiring = "skip+norm" if skips else "neither"
    cell = SystemCell("digits", "osa-length", wiring, depth, changes=tuple(own.items()))
    recipe = Recipe(steps=updates, probes=())
    try:
        return float(train(Run(cell, RATE, seed), _digits(), recipe)["test"])
    except OsaError:  # a part that needs skips
        return None


def _digits() -> Task:
    from pathlib import Path

    return TASKS["digits"](Path())
