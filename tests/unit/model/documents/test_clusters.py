"""Spherical k-means: the groups that are there, the same every time, and never worse than begun."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.model.documents import clusters
from osa.model.documents.clusters import cluster
from osa.model.errors import OsaError


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found.astype(np.float32)


def around(
    directions: int, count: int, spread: float, seed: int = 0
) -> tuple[np.ndarray, list[int]]:
    """Unit vectors near some orthogonal directions, and which each is near to."""
    generator = np.random.default_rng(seed)
    own = [int(number) for number in generator.integers(0, directions, count)]
    noise = generator.standard_normal((count, 32)) * spread
    return unit(np.eye(32)[own] + noise), own


def likeness(rows: np.ndarray, groups: np.ndarray) -> float:
    """What spherical k-means makes large: the lengths of the groups' sums."""
    sums = [rows[groups == group].astype(np.float64).sum(0) for group in set(groups.tolist())]
    return float(sum(np.linalg.norm(one) for one in sums))


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_follow_each_other_are_found(seed: int) -> None:
    rows, own = around(5, 200, 0.02, seed)
    order = np.argsort(own, kind="stable")
    rows, expected = rows[order], sorted(own)
    assert cluster(rows, 5).tolist() == expected
    assert cluster(np.asfortranarray(rows), 5).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_are_mixed_are_nearly_found(seed: int) -> None:
    """k-means may end with one of them in two parts, and two in one."""
    rows, own = around(5, 200, 0.02, seed)
    assert likeness(rows, cluster(rows, 5)) > 0.85 * likeness(rows, np.array(own))


def test_no_group_is_given_up_while_vectors_differ() -> None:
    rows = unit(np.random.default_rng(1).standard_normal((40, 8)))
    rows[10:] = unit(rows[10:11] + 0.1 * np.random.default_rng(2).standard_normal((30, 8)))
    assert sorted(set(cluster(rows, 9).tolist())) == list(range(9))


def test_few_vectors_are_groups_of_their_own() -> None:
    rows, _ = around(4, 6, 0.3)
    assert cluster(rows, 6).tolist() == list(range(6))
    assert cluster(rows, 64).tolist() == list(range(6))
    assert cluster(rows[:0], 3).tolist() == []
    assert cluster(rows, 1).tolist() == [0] * 6


def test_equal_vectors_are_in_one_group() -> None:
    rows = unit(np.repeat(np.eye(3, 8), 4, axis=0))
    assert cluster(rows, 7).tolist() == [0] * 4 + [1] * 4 + [2] * 4


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 2**16))
def test_each_vector_is_in_the_group_that_is_most_like_it(count: int, most: int, seed: int) -> None:
    """Unless the steps end before; these are few vectors."""
    rows = unit(np.random.default_rng(seed).standard_normal((count, 8)))
    groups = cluster(rows, most)
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))
    if count <= most:
        return
    sums = np.stack(
        [rows[groups == one].sum(0, dtype=np.float64) for one in range(groups.max() + 1)]
    )
    scores = rows @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T
    own = scores[np.arange(count), groups]
    assert (own >= scores.max(1) - 1e-6).all()


@pytest.mark.parametrize("seed", range(4))
def test_steps_make_groups_more_alike(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(np.random.default_rng(seed).standard_normal((300, 16)))
    reached = []
    for steps in (1, 2, 5, 20):
        monkeypatch.setattr(clusters, "MOST_STEPS", steps)
        reached.append(likeness(rows, cluster(rows, 8)))
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]


def test_work_that_is_not_wanted_any_more_ends() -> None:
    rows, _ = around(5, 100, 0.5)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OsaError("late")

    with pytest.raises(OsaError, match="late"):
        cluster(rows, 5, check)
