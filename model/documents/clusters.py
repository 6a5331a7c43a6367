"""Spherical k-means without chance: the same vectors always fall into the same groups.

It starts from the vectors in consecutive parts, since a document's neighbouring chunks are alike,
and gives a group that has become empty the vector that fits its own worst.

Source: Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data Using Clustering",
Machine Learning 42, 2001.

Shapes: n vectors, k groups, E width.
"""

from __future__ import annotations

import numpy as np

from osa.model.text.slices import Check, go_on

MOST_STEPS = 20
"""Steps after which groups are taken as they are; nearly all stand still before."""
ALIKE = 1 - 1e-6
"""Vectors with at least this cosine with their centre are equal to it."""


def cluster(vectors: np.ndarray, most: int, check: Check = go_on) -> np.ndarray:
    """Groups of similar vectors: which group each belongs to, int64 [n].

    Groups are numbered in the order of their first vectors. All is computed in double, in a fixed
    order; ties go to the lowest index. Time is linear in n.

    Args:
        vectors: Unit vectors [n, E], in the order of a document.
        most: Most groups, at least 1. No more vectors than that are a group each, equal ones too;
            of more, equal vectors fall into one.
        check: Called between steps.
    """
    if len(vectors) <= most:
        return np.arange(len(vectors))
    rows = vectors.astype(np.float64)
    groups = np.arange(len(rows)) * most // len(rows)
    centres = np.zeros((most, rows.shape[1]))
    for _ in range(MOST_STEPS):
        check()
        centres = _centres(rows, groups, centres)
        scores = rows @ centres.T
        nearest = _filled(scores.argmax(axis=1), scores)
        if np.array_equal(nearest, groups):
            break
        groups = nearest
    return _in_order(groups)


def _filled(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The same groups, but of every empty one the vector that is least like its own centre.

    Args:
        groups: Of each vector [n].
        scores: Cosines of vectors with centres [n, k].
    """
    sizes = np.bincount(groups, minlength=scores.shape[1])
    own = scores[np.arange(len(groups)), groups]
    for empty in np.flatnonzero(sizes == 0):
        own[sizes[groups] == 1] = 1.0  # a vector that is alone stays
        worst = int(own.argmin())
        if own[worst] > ALIKE:
            break
        sizes[groups[worst]] -= 1
        groups[worst], sizes[empty], own[worst] = empty, 1, 1.0
    return groups


def _centres(rows: np.ndarray, groups: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The directions of the groups' sums [k, E]; of an empty group what it was."""
    members = (groups == np.arange(len(before))[:, None]).astype(np.float64)
    sums = members @ rows
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-300), before)


def _in_order(groups: np.ndarray) -> np.ndarray:
    """The same groups, numbered by their first members, without empty ones."""
    _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
    renumbered: np.ndarray = firsts.argsort().argsort()[numbers]
    return renumbered
