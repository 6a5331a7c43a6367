"""Loads: how much work comes when, and how long inputs are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LONGEST = 8192
"""Longest input [tokens]."""


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths, as those of texts are.

    Attributes:
        median: Half of all are shorter [tokens].
        sigma: Of their logarithm.
    """

    median: float = 400.0
    sigma: float = 1.2

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """So many lengths, int64."""
        found = generator.lognormal(math.log(self.median), self.sigma, count)
        return np.clip(found, 3, LONGEST).astype(np.int64)

    def mean(self) -> float:
        """Their mean [tokens]."""
        return float(self.draw(np.random.default_rng(0), 200_000).mean())


@dataclass(frozen=True)
class Load:
    """Work over time.

    Attributes:
        name: What it is called.
        duration_s: How long it is [s].
        share: From a time [s] to the work then, as a share of the peak's.
        longer: From a time [s] to a factor on lengths, at the same work's requests.
    """

    name: str
    duration_s: float
    share: Callable[[float], float]
    longer: Callable[[float], float] = lambda at: 1.0


def day(at: float) -> float:
    """A day in forty minutes: from a fifth of the peak to all of it and back."""
    return 0.6 - 0.4 * math.cos(2 * math.pi * at / 2400.0)


LOADS = {
    load.name: load
    for load in (
        Load("day", 2400.0, day),
        Load("step", 1500.0, lambda at: 1.0 if 300 <= at < 1000 else 0.4),
        Load("burst", 1200.0, lambda at: 1.0 if 300 <= at < 360 else 0.3),
        Load(
            "longer",
            1500.0,
            lambda at: 0.3,
            lambda at: 3.0 if 300 <= at < 1000 else 1.0,
        ),
    )
}
"""``longer``: as many requests as before, each three times as long for a while."""
