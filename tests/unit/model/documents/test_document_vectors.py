"""Vectors of groups of chunks: directions, shares, and the characters that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from osa.model.documents.chunk_ranges import Chunk
from osa.model.documents.document_vectors import group_chunks, group_vectors, join

NEAR = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [1, 0, 0]], np.float32)
CHUNKS = [Chunk(0, 9, 0, 2), Chunk(10, 19, 2, 4), Chunk(20, 29, 4, 6), Chunk(30, 34, 6, 7)]


def test_a_group_has_the_direction_of_its_sum() -> None:
    found = group_chunks(NEAR, CHUNKS, 2)
    assert found.groups.tolist() == [0, 0, 1, 0]
    expected = np.array([2.8, 0.6, 0.0]) / np.hypot(2.8, 0.6)
    np.testing.assert_allclose(found.vectors[0], expected, atol=1e-7)
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors[1], NEAR[2]), "it is alone, and stays what it was"
    assert found.weights.tolist() == pytest.approx([5 / 7, 2 / 7])
    assert found.ranges == [[(0, 19), (30, 34)], [(20, 29)]]
    assert found.chunks is CHUNKS


def test_as_many_chunks_as_vectors_stay_as_they_are() -> None:
    found = group_chunks(NEAR, CHUNKS, 4)
    assert np.array_equal(found.vectors, NEAR)
    assert found.ranges == [[chunk[:2]] for chunk in CHUNKS]


def test_no_chunks_have_no_vectors() -> None:
    found = group_chunks(NEAR[:0], [], 4)
    assert found.vectors.shape == (0, 3)
    assert (len(found.weights), found.ranges, len(found.groups)) == (0, [], 0)


def test_opposite_vectors_have_no_direction() -> None:
    vectors, groups = group_vectors(np.array([[1, 0], [-1, 0]], np.float32), 1)
    assert groups.tolist() == [0, 0]
    assert vectors.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([Chunk(0, 5, 0, 1), Chunk(6, 9, 1, 2)], [(0, 9)]),
        ([Chunk(6, 9, 1, 2), Chunk(0, 5, 0, 1)], [(0, 9)]),
        ([Chunk(0, 5, 0, 1), Chunk(8, 9, 2, 3)], [(0, 5), (8, 9)]),
        ([Chunk(0, 9, 0, 4), Chunk(2, 5, 1, 2), Chunk(12, 13, 5, 6)], [(0, 9), (12, 13)]),
        ([Chunk(0, 9, 0, 4), Chunk(5, 12, 2, 6)], [(0, 12)]),
        ([], []),
    ],
)
def test_chunks_whose_tokens_touch_are_one_range(
    chunks: list[Chunk], expected: list[tuple[int, int]]
) -> None:
    assert join(chunks) == expected
