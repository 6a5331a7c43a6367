"""Files of scored sentence pairs, and the rank correlation of two lists of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from osa.model.errors import ConfigError


def spearman(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation; ties share their mean rank. 0 where all values are equal."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (left, right)]
    if any(np.ptp(values) == 0.0 for values in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    mean_rank = ends - (counts - 1) / 2.0
    return np.asarray(mean_rank[inverse])


def read_pairs(path: Path) -> tuple[list[float], list[str], list[str]]:
    """Read ``score<TAB>sentence<TAB>sentence`` lines.

    Raises:
        ConfigError: Naming the line that is not of this form; or all scores are equal, with which
            nothing can be in order.
    """
    scores, left, right = [], [], []
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        try:
            scores.append(float(cells[0]))
            left.append(cells[1])
            right.append(cells[2])
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{path}:{number} is not score<TAB>text<TAB>text") from error
    if len(set(scores)) < 2:
        raise ConfigError(f"{path} has {len(scores)} pairs, all of one score: two must differ")
    return scores, left, right
