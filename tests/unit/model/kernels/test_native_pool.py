"""Pooling of packed sequences by the CPU kernel, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from osa.model import InputError
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import native_rows, use_kernel
from osa.model.kernels.native_block import is_available
from osa.model.kernels.native_pool import POOLINGS, pool_packed, supports

pytestmark = pytest.mark.skipif(not is_available(), reason="the CPU kernel is not built")
LENGTHS = [1, 0, 2, 127, 128, 129, 300, 0]


def pooled_exactly(hidden: torch.Tensor, how: str, lengths: list[int]) -> np.ndarray:
    """The definition, in float64."""
    found = []
    for part in np.split(hidden.double().numpy(), np.cumsum(lengths)[:-1]):
        places = np.arange(1, len(part) + 1.0)[:, None]
        if not len(part):
            found.append(np.zeros(hidden.shape[1]))
        elif how in ("cls", "last"):
            found.append(part[0 if how == "cls" else -1])
        else:
            weights = places if how == "weighted" else np.ones_like(places)
            found.append((part * weights).sum(0) / weights.sum())
    return np.stack(found)


@pytest.mark.parametrize("how", POOLINGS)
@pytest.mark.parametrize("width", [1, 7, 32, 100])
def test_it_is_the_definition(instruction_set: str, how: str, width: int) -> None:
    torch.manual_seed(width)
    wider = torch.randn(sum(LENGTHS), width + 5)
    for hidden in (wider[:, :width], wider[:, :width].contiguous()):
        found = pool_packed(hidden, how, cu_seqlens_of(LENGTHS))
        np.testing.assert_allclose(
            found, pooled_exactly(hidden, how, LENGTHS), rtol=2e-6, atol=2e-6
        )


@pytest.mark.parametrize("how", POOLINGS)
def test_a_sequence_has_the_same_bits_alone_and_on_any_number_of_threads(
    instruction_set: str, how: str
) -> None:
    torch.manual_seed(0)
    lengths = [300, 5, 1000, 1, 77] * 8
    hidden = torch.randn(sum(lengths), 48)
    together = pool_packed(hidden, how, cu_seqlens_of(lengths))
    for part, vector in zip(hidden.split(lengths), together, strict=True):
        assert torch.equal(pool_packed(part, how, cu_seqlens_of([len(part)]))[0], vector)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 3)
        assert torch.equal(pool_packed(hidden, how, cu_seqlens_of(lengths)), together)
    finally:
        torch.set_num_threads(before)


def test_the_mean_of_many_tokens_is_exact() -> None:
    """One accumulator for 200 000 numbers near 1 would be wrong by 1e-3."""
    hidden = 1.0 + torch.rand(200_000, 3)
    found = pool_packed(hidden, "mean", cu_seqlens_of([len(hidden)]))
    np.testing.assert_allclose(found[0], hidden.double().mean(0), rtol=3e-6)


@pytest.mark.parametrize("offsets", [[0, 3], [0, 5, 4], [1, 4], [0, 3, 2, 4]])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    with pytest.raises(InputError, match="cu_seqlens must rise from 0 to the packed length"):
        pool_packed(torch.zeros(4, 2), "mean", torch.tensor(offsets, dtype=torch.int32))


def test_what_is_supported() -> None:
    states = torch.zeros(4, 2)
    assert not supports(states)  # gradients are recorded
    with torch.no_grad():
        assert supports(states)
        assert not supports(states.double())
        assert not supports(states.t())
        assert not supports(states.to("meta"))
        with use_kernel("torch"):
            assert not supports(states)


@pytest.mark.parametrize("width", [1, 16, 33, 100])
@pytest.mark.parametrize("kind", ["rms", "layer", "layer without bias"])
def test_norms_of_rows(instruction_set: str, kind: str, width: int) -> None:
    torch.manual_seed(width)
    norm: nn.RMSNorm | nn.LayerNorm = nn.LayerNorm(width, bias=kind == "layer")
    if kind == "rms":
        norm = nn.RMSNorm(width, eps=1e-5)
    for part in norm.parameters():
        nn.init.normal_(part)
    rows = torch.randn(50, width)
    found = rows.clone()
    with torch.no_grad():
        native_rows.norm_(found, norm)
        torch.testing.assert_close(found, norm(rows), rtol=1e-4, atol=1e-5)
