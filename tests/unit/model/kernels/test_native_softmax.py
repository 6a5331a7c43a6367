"""Softmax attention of packed batches on CPUs: against float64, and fixed bits."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native
from osa.model.kernels.native_softmax import attend_packed, supports

pytestmark = pytest.mark.skipif(
    isinstance(native.library(), str), reason=f"the CPU kernel {native.library()}"
)
LENGTHS = [1, 2, 3, 16, 17, 31, 32, 33, 64, 100, 257, 515, 0, 1030]
HEADS = 2
States = tuple[Tensor, Tensor, Tensor]
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}


def operands(width: int, dtype: torch.dtype, total: int = sum(LENGTHS)) -> States:
    """Views of one tensor, as an encoder's projection has them."""
    torch.manual_seed(width)
    joint = torch.randn(1, total, 3, HEADS, width).to(dtype)
    query, key, value = (part.transpose(1, 2) for part in joint.unbind(2))
    return query, key, value


def in_float64(
    parts: States, lengths: list[int], bias: Tensor | None, window: int | None
) -> Tensor:
    results = []
    for query, key, value in zip(
        *(part.double().split(lengths, dim=2) for part in parts), strict=True
    ):
        length = query.shape[2]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        apart = torch.arange(length)[None] - torch.arange(length)[:, None]
        if bias is not None:
            scores = scores + bias.double()[:, apart + bias.shape[1] // 2]
        if window is not None:
            scores = scores.masked_fill(apart.abs() > window, -torch.inf)
        results.append(scores.softmax(-1) @ value)
    return torch.cat(results, dim=2)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [1, 16, 20, 32, 64, 96, 128])
@pytest.mark.parametrize(("window", "biased"), [(None, False), (0, False), (40, True)])
@torch.inference_mode()
def test_results_are_those_of_float64_and_independent_of_the_batch(
    width: int, dtype: torch.dtype, window: int | None, biased: bool
) -> None:
    parts = operands(width, dtype)
    bias = torch.randn(HEADS, 2 * max(LENGTHS) - 1) if biased else None
    found = attend_packed(*parts, cu_seqlens_of(LENGTHS), bias, window)
    expected = in_float64(parts, LENGTHS, bias, window)
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE[dtype], rtol=0)
    offsets = itertools.accumulate(LENGTHS, initial=0)
    for start, stop in itertools.pairwise(offsets):
        query, key, value = (part[:, :, start:stop] for part in parts)
        again = attend_packed(query, key, value, cu_seqlens_of([stop - start]), bias, window)
        assert torch.equal(again, found[:, :, start:stop])


@torch.inference_mode()
def test_any_number_of_threads_gives_the_same_bits() -> None:
    parts, before = operands(32, torch.float32), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(attend_packed(*parts, cu_seqlens_of(LENGTHS)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@torch.inference_mode()
def test_nan_stays_within_its_sequence() -> None:
    query, key, value = operands(32, torch.float32, 70)
    key[0, 0, 40, 3] = torch.nan
    found = attend_packed(query, key, value, cu_seqlens_of([30, 40]))
    assert found[:, :, :30].isfinite().all()
    assert found[0, 0, 30:].isnan().any(-1).all()


@torch.inference_mode()
def test_large_scores_do_not_overflow() -> None:
    query, key, value = operands(32, torch.float32, 50)
    query = 1000 * query
    found = attend_packed(query, key, value, cu_seqlens_of([50]))
    expected = in_float64((query, key, value), [50], None, None)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-4)


@torch.inference_mode()
def test_what_does_not_fit_is_refused() -> None:
    parts = operands(32, torch.float32, 10)
    with pytest.raises(InputError, match="cu_seqlens must rise from 0 to the packed length"):
        attend_packed(*parts, cu_seqlens_of([4, 5]))
    with pytest.raises(InputError, match="cu_seqlens must rise"):
        attend_packed(*parts, torch.tensor([0, 7, 5, 10], dtype=torch.int32))
    with pytest.raises(InputError, match="sizes must not"):
        attend_packed(*parts, cu_seqlens_of([10]), torch.zeros(HEADS, 17))


def test_gradients_and_wide_heads_are_left_to_torch() -> None:
    assert not supports(torch.zeros(1, 1, 1, 32))
    with torch.no_grad():
        assert supports(torch.zeros(1, 1, 1, 32))
        assert not supports(torch.zeros(1, 1, 1, 130))
        assert not supports(torch.zeros(1, 1, 1, 32, dtype=torch.float64))
