"""Scores of an embedding model: agreement with a teacher, and semantic textual similarity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.errors import ConfigError


def agreement(student: Float[Tensor, "S E"], teacher: Float[Tensor, "S E"]) -> dict[str, float]:
    """How unit vectors of a student follow the teacher's of the same texts.

    Returns:
        ``cosine``, the mean over the texts, and ``retrieval``, the share of texts whose own
        teacher vector is the nearest of all.
    """
    similarity = student @ teacher.T
    nearest = similarity.argmax(-1) == torch.arange(len(student))
    cosine = float(similarity.diagonal().mean())
    return {"cosine": cosine, "retrieval": float(nearest.float().mean())}


def retrieval_scores(
    queries: Float[Tensor, "Q E"], passages: Float[Tensor, "Q E"], depth: int = 10
) -> dict[str, float]:
    """How well query i finds passage i among all passages; both are unit vectors.

    Returns:
        ``recall_at_1``, ``recall_at_<depth>`` and ``mrr_at_<depth>``.
    """
    ranks = []
    for start in range(0, len(queries), 1024):
        block = queries[start : start + 1024] @ passages.T
        own = block.diagonal(start)[:, None]
        ranks.append((block > own).sum(1))
    rank = torch.cat(ranks)
    found = rank < depth
    return {
        "recall_at_1": float((rank == 0).float().mean()),
        f"recall_at_{depth}": float(found.float().mean()),
        f"mrr_at_{depth}": float((found / (rank + 1.0)).mean()),
    }


def spearman(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation; ties share their mean rank."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (left, right)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    mean_rank = ends - (counts - 1) / 2.0
    return np.asarray(mean_rank[inverse])


def read_pairs(path: Path) -> tuple[list[float], list[str], list[str]]:
    """Read ``score<TAB>sentence<TAB>sentence`` lines.

    Raises:
        ConfigError: Naming the line that is not of this form.
    """
    scores, left, right = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        cells = line.split("\t")
        try:
            scores.append(float(cells[0]))
            left.append(cells[1])
            right.append(cells[2])
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{path}:{number} is not score<TAB>text<TAB>text") from error
    return scores, left, right
