"""Batches: every row at most once an epoch, a function of seed and update alone, by length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from osa.model.training.data.batch import Example, pack, split_into_chunks
from osa.model.training.data.sampler import BatchSampler, shard


@given(size=st.integers(2, 40), batch=st.integers(1, 40), seed=st.integers(0, 9))
def test_an_epoch_meets_every_row_at_most_once(size: int, batch: int, seed: int) -> None:
    order = BatchSampler(size, batch, seed)
    rows = np.concatenate([order.rows(step) for step in range(order.batches_per_epoch)])
    assert len(set(rows.tolist())) == len(rows) == order.batches_per_epoch * min(batch, size)
    assert set(rows.tolist()) <= set(range(size))


def test_batches_are_a_function_of_step_and_seed() -> None:
    def rows(step: int, seed: int) -> list[int]:
        return [int(row) for row in BatchSampler(100, 4, seed).rows(step)]

    order = BatchSampler(100, 4, 1)
    jumped = [order.rows(step).tolist() for step in (30, 7, 55, 7)]
    assert jumped == [rows(step, 1) for step in (30, 7, 55, 7)]
    assert rows(7, 1) != rows(7, 2)
    assert rows(0, 1) != rows(25, 1), "another epoch has another order"


@given(window=st.integers(2, 6), seed=st.integers(0, 5))
def test_buckets_hold_inputs_of_about_one_length(window: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 500, 240)
    plain = BatchSampler(240, 8, seed)
    order = BatchSampler(240, 8, seed, lengths, window)
    batches = [order.rows(step) for step in range(order.batches_per_epoch)]
    assert sorted(np.concatenate(batches)) == list(range(240))

    def spread(of: BatchSampler) -> float:
        return float(np.mean([np.ptp(lengths[of.rows(step)]) for step in range(30)]))

    assert spread(order) < 0.75 * spread(plain)
    firsts = [lengths[batch].min() for batch in batches[:window]]
    assert any(
        [lengths[order.rows(step)].min() for step in range(first, first + window)] != sorted(firsts)
        for first in range(0, 30 - window, window)
    ), "within a window batches are shuffled again"


@given(size=st.integers(1, 30), world_size=st.integers(1, 5))
def test_processes_share_a_batch_without_overlap(size: int, world_size: int) -> None:
    batch = np.arange(100, 100 + size)
    parts = [shard(batch, rank, world_size) for rank in range(world_size)]
    places = np.concatenate([place for _, place in parts])
    assert sorted(places) == list(range(size))
    assert all((batch[place] == rows).all() for rows, place in parts)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), budget=st.integers(1, 120))
def test_chunks_hold_the_budget_and_every_example_once(lengths: list[int], budget: int) -> None:
    examples = [Example([7] * length, (place,)) for place, length in enumerate(lengths)]
    groups = list(split_into_chunks(examples, budget))
    assert sorted(key for group in groups for e in group for key in e.keys) == list(
        range(len(lengths))
    )
    assert all(len(g) == 1 or sum(len(e.inputs) for e in g) <= budget for g in groups)
    assert len(groups) <= 1 + 2 * sum(lengths) // budget + sum(n > budget for n in lengths)


def test_packing_lays_sequences_spans_and_labels_end_to_end() -> None:
    examples = [Example([1, 2, 3], spans=(2, 1), labels=[0, 5, 0]), Example([4], labels=[9])]
    packed = pack(examples, torch.device("cpu"))
    assert packed.inputs.tolist() == [[1, 2, 3, 4]]
    assert packed.cu_seqlens.tolist() == [0, 3, 4]
    assert packed.spans.tolist() == [0, 2, 3, 4]
    assert packed.labels.tolist() == [0, 5, 0, 9]


@pytest.mark.parametrize("rows", [[2], [1, 3]])
def test_packing_features_keeps_their_width(rows: list[int]) -> None:
    examples = [Example(np.full((n, 4), n, dtype=np.float32)) for n in rows]
    packed = pack(examples, torch.device("cpu"))
    assert packed.inputs.shape == (1, sum(rows), 4)
    assert packed.spans.tolist() == packed.cu_seqlens.tolist()
