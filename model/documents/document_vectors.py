"""A document's vectors: its chunks in groups, a vector each.

Shapes: n chunks, k vectors, E width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from osa.model.documents.chunk_ranges import Chunk
from osa.model.documents.clusters import cluster
from osa.model.text.slices import Check, go_on


class DocumentVectors(NamedTuple):
    """The vectors of one document, in the order of what they stand for.

    Attributes:
        vectors: Unit vectors, float32 [k, E]; none of a document without tokens.
        weights: Share of the chunks' tokens that each stands for, float32 [k]; their sum is 1.
        ranges: Characters [start, end) that each stands for, ascending; neighbouring chunks of one
            vector are one range.
        chunks: What was grouped, in order.
        groups: Index of each chunk's vector, integers [n].
    """

    vectors: np.ndarray
    weights: np.ndarray
    ranges: list[list[tuple[int, int]]]
    chunks: Sequence[Chunk]
    groups: np.ndarray


def group_chunks(
    vectors: np.ndarray, chunks: Sequence[Chunk], most: int, check: Check = go_on
) -> DocumentVectors:
    """At most ``most`` vectors for the chunks of one document.

    Args:
        vectors: Of the chunks, unit vectors, float32 [n, E].
        chunks: The chunks, as many; they may overlap and be in any order.
        most: Most vectors, at least 1; a chunk that is alone in its group keeps its vector.
        check: Called between steps.
    """
    found, groups = group_vectors(vectors, most, check)
    members = [np.flatnonzero(groups == group) for group in range(len(found))]
    tokens = np.array([chunk.tokens for chunk in chunks], dtype=np.float64)
    sums = np.array([tokens[places].sum() for places in members])
    return DocumentVectors(
        found,
        (sums / max(1.0, tokens.sum())).astype(np.float32),
        [join(chunks[place] for place in places.tolist()) for places in members],
        chunks,
        groups,
    )


def group_vectors(
    vectors: np.ndarray, most: int, check: Check = go_on
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``most`` unit vectors [k, E] for unit vectors [n, E], and the group of each [n].

    A group's vector has the direction of its sum; a vector that is alone in its group stays.
    """
    groups = cluster(vectors, most, check)
    count = int(groups.max(initial=-1)) + 1
    found = np.zeros((count, vectors.shape[1]), np.float32)
    for group in range(count):
        found[group] = _direction(vectors[groups == group])
    return found, groups


def join(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    """Characters [start, end) of chunks, ascending; those whose tokens touch are one range."""
    ranges: list[tuple[int, int]] = []
    reached = -1
    for chunk in sorted(chunks, key=lambda chunk: (chunk.first, chunk.stop)):
        if chunk.first <= reached:
            start, end = ranges[-1]
            ranges[-1] = min(start, chunk.start), max(end, chunk.end)
        else:
            ranges.append((chunk.start, chunk.end))
        reached = max(reached, chunk.stop)
    return ranges


def _direction(vectors: np.ndarray) -> np.ndarray:
    """The unit vector of a sum of unit vectors [n, E]; of one, itself."""
    if len(vectors) == 1:
        alone: np.ndarray = vectors[0]
        return alone
    total = vectors.sum(axis=0, dtype=np.float64)
    found: np.ndarray = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return found
