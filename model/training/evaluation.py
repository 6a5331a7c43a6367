"""Scores of an embedding model on held-out data: agreement with a teacher, and retrieval."""

from __future__ import annotations

import torch
from jaxtyping import Float
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
