"""Packed batches: offsets, buckets, and an exact round trip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.varlen import (
    GATHER_LIMIT,
    Bucket,
    bucket_sequences,
    bucket_width,
    check_cu_seqlens,
    cu_seqlens_of,
    map_buckets,
)


@given(length=st.integers(1, 3 * GATHER_LIMIT))
def test_width_holds_the_sequence_and_wastes_little(length: int) -> None:
    width = bucket_width(length)
    assert length <= width < max(1.25 * length + 1, length + 8)
    assert width == length or length <= GATHER_LIMIT


def test_long_sequences_stand_alone_without_padding() -> None:
    sizes = [GATHER_LIMIT + 1, GATHER_LIMIT + 1, 3]
    buckets = bucket_sequences(tuple(cu_seqlens_of(sizes).tolist()), torch.device("cpu"))
    assert [bucket.lengths for bucket in buckets] == [(3,), (1025,), (1025,)]
    assert [bucket.mask is None for bucket in buckets] == [False, True, True]


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_every_token_is_met_once_and_returned_to_its_place(sizes: list[int]) -> None:
    total = sum(sizes)
    states = torch.arange(total * 4, dtype=torch.float64).view(1, total, 2, 2).transpose(1, 2)
    met: list[int] = []

    def kernel(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
        met.extend(bucket.lengths)
        assert parts[0].shape == (len(bucket.lengths), 2, bucket.width, 2)
        return (parts[0] + 1,)

    (output,) = map_buckets((states,), cu_seqlens_of(sizes).tolist(), kernel, 1)
    assert torch.equal(output, states + 1)
    assert sorted(met) == sorted(size for size in sizes if size)


@pytest.mark.parametrize(
    "offsets",
    [
        torch.tensor([0, 3]),
        torch.tensor([1, 5]),
        torch.tensor([0, 4, 2, 5]),
        torch.tensor([[0, 5]]),
        torch.tensor([0.0, 5.0]),
        torch.tensor([], dtype=torch.int32),
    ],
)
def test_offsets_that_are_none_are_refused(offsets: Tensor) -> None:
    with pytest.raises(InputError, match="cu_seqlens must"):
        check_cu_seqlens(offsets, 5)
