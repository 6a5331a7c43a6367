"""The rank correlation of the quality benchmarks."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from osa.model.conversion.rank_correlation import spearman


def test_spearman_is_scipys() -> None:
    stats = importlib.import_module("scipy.stats")
    left, right = np.random.default_rng(0).integers(0, 9, (2, 200))
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)


def test_equal_values_have_no_order() -> None:
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0.0
