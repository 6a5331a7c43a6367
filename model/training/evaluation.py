"""Scores on held-out data: agreement with a teacher, retrieval, and the order of a reranker."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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


def rankings(queries: Sequence[str], relevant: Bool[Tensor, " n"]) -> list[list[int]]:
    """Rows of each query that has both a relevant and an irrelevant row."""
    rows: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        rows.setdefault(query, []).append(row)
    marks = relevant.tolist()
    return [group for group in rows.values() if len({marks[row] for row in group}) == 2]


def mean_reciprocal_rank(
    groups: Sequence[Sequence[int]], scores: Float[Tensor, " n"], relevant: Bool[Tensor, " n"]
) -> float:
    """Mean of 1 / rank of the best relevant row of each group; equal scores count against it.

    Args:
        groups: Rows of each ranking, of ``rankings``.
        scores: Of every row.
        relevant: Whether a row is what its query looks for.
    """
    shares = []
    for group in groups:
        own, marks = scores[list(group)], relevant[list(group)]
        ahead = int((own[~marks] >= own[marks].max()).sum())
        shares.append(1.0 / (1 + ahead))
    return sum(shares) / len(shares)
