"""Spherical k-means without chance: the same vectors always fall into the same groups.

Source: Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data Using Clustering",
Machine Learning 42, 2001. The start is the farthest-first traversal of Gonzalez, "Clustering to
Minimize the Maximum Intercluster Distance", 1985.

Shapes: n vectors, k groups, E width.
"""

from __future__ import annotations

import numpy as np

from osa.model.text.slices import Check, go_on

MOST_STEPS = 20
"""Steps after which groups are taken as they are; nearly all stand still before."""


def cluster(vectors: np.ndarray, most: int, check: Check = go_on) -> np.ndarray:
    """Groups of similar vectors: which group each belongs to, int64 [n].

    Groups are numbered in the order of their first vectors. All is computed in double, in a fixed
    order; ties go to the lowest index. Time is linear in n.

    Args:
        vectors: Unit vectors [n, E].
        most: Most groups, at least 1; fewer where there are fewer different vectors.
        check: Called between steps.
    """
    if len(vectors) <= most:
        return np.arange(len(vectors))
    rows = vectors.astype(np.float64)
    centres = rows[_farthest(rows, most, check)]
    groups = np.full(len(rows), -1)
    for _ in range(MOST_STEPS):
        check()
        nearest = (rows @ centres.T).argmax(axis=1)
        if np.array_equal(nearest, groups):
            break
        groups = nearest
        centres = _centres(rows, groups, centres)
    return _in_order(groups)


def _farthest(rows: np.ndarray, most: int, check: Check) -> list[int]:
    """Places of ``most`` vectors: the one nearest to the mean, then always the least similar."""
    chosen = [int((rows @ rows.sum(axis=0)).argmax())]
    nearest = rows @ rows[chosen[0]]
    while len(chosen) < most:
        check()
        chosen.append(int(nearest.argmin()))
        np.maximum(nearest, rows @ rows[chosen[-1]], out=nearest)
    return chosen


def _centres(rows: np.ndarray, groups: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The directions of the groups' sums [k, E]; of an empty group what it was."""
    members = (groups == np.arange(len(before))[:, None]).astype(np.float64)
    sums = members @ rows
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-300), before)


def _in_order(groups: np.ndarray) -> np.ndarray:
    """The same groups, numbered by their first members, without empty ones."""
    _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
    ranks: np.ndarray = firsts.argsort().argsort()
    return ranks[numbers]
