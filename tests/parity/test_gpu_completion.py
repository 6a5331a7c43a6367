"""The terms that complete OSA in Triton kernels, with gradients, against torch in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.gpu_setup import CUDA, DEVICE, error, use_small_tiles  # the interpreter first

from osa.model.config import EncoderConfig  # isort: skip
from osa.model.functional.varlen import cu_seqlens_of  # isort: skip
from osa.model.kernels import gpu, use_kernel  # isort: skip
from osa.model.kernels.gpu.completion.function import (  # isort: skip
    complete_in_place, complete_with_gradients,
)  # fmt: skip
from osa.model.functional.completion import Terms  # isort: skip
from osa.model.layers.mixers import TokenContext  # isort: skip
from osa.model.layers.mixers.completion import Completion  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of NaN
HEADS, WIDTH = 2, 32
OPTIONS: dict[str, dict[str, Any]] = {
    "pool": {"osa_pool": True},
    "taps": {"osa_taps": 2},
    "gate": {"osa_gate": True},
    "all": {"osa_pool": True, "osa_taps": 3, "osa_gate": True},
}
ERROR = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
LENGTHS = [5, 1, 0, 130]
"""In small tiles several slots of the pool, and tiles whose neighbours are in another."""


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch)


def make(options: str) -> Completion:
    """Terms whose every weight is random, in float64."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=1, hidden_size=HEADS * WIDTH, num_heads=HEADS, **OPTIONS[options]
    )
    terms = Completion(config).double().to(DEVICE)
    for weight in terms.parameters():
        weight.data.normal_()
    return terms


def weights_of(terms: Completion) -> Terms:
    parts = (terms.identity, terms.mixed, terms.pool, terms.taps)
    return Terms(*parts, terms.gated)


def draw(terms: Completion, length: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor | None]:
    mixed, value = torch.randn(2, batch, HEADS, length, WIDTH, device=DEVICE)
    sides = None
    if terms.num_sides:
        sides = 2 * torch.randn(batch, length, HEADS * terms.num_sides, device=DEVICE)
    return mixed, value, sides


def compare(
    terms: Completion, dtype: torch.dtype, mask: Tensor | None, offsets: Tensor | None, size: int
) -> None:
    """Results and all gradients of both forms."""
    mixed, value, sides = draw(terms, size, 1 if mask is None else len(mask))
    mixed, value = mixed.to(dtype), value.to(dtype)
    grad = torch.randn_like(mixed)
    if mask is not None:  # what is written to padding is nobody's
        grad = grad * mask[:, None, :, None]
    inputs = [part for part in (mixed, value, sides) if part is not None]
    doubles = [part.double().requires_grad_() for part in inputs]
    leaves = [part.clone().requires_grad_() for part in inputs]
    context = TokenContext(mask, offsets, None)
    with use_kernel("torch"):
        truth = terms(doubles[0], doubles[1], doubles[2] if len(doubles) > 2 else None, context)
    wanted = torch.autograd.grad(truth, [*doubles, *terms.parameters()], grad.double())
    own = [weight.detach().float().requires_grad_() for weight in terms.parameters()]
    names = [name for name, _ in terms.named_parameters()]
    named = dict(zip(names, own, strict=True))
    by = Terms(named["identity"], named["mixed"], named.get("pool"), named.get("taps"), terms.gated)
    side = leaves[2] if len(leaves) > 2 else None
    found = complete_with_gradients(leaves[0], leaves[1], side, by, mask, offsets)
    got = torch.autograd.grad(found, [*leaves, *own], grad)
    if mask is not None:
        truth = truth * mask[:, None, :, None]
    assert found.dtype == dtype
    assert error(found.detach(), truth.detach()) <= ERROR[dtype]
    for part, expected in zip(got, wanted, strict=True):
        assert error(part, expected) <= 2 * ERROR[dtype]


@pytest.mark.parametrize("options", OPTIONS)
def test_packed_is_the_formula(options: str) -> None:
    offsets = cu_seqlens_of(LENGTHS).to(DEVICE)
    compare(make(options), torch.float32, None, offsets, sum(LENGTHS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    compare(make("all"), dtype, None, cu_seqlens_of([70]).to(DEVICE), 70)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_is_the_formula(side: str) -> None:
    mask = torch.ones(3, 80, dtype=torch.bool, device=DEVICE)
    mask[0, 77:] = mask[1, 2:] = False
    compare(make("all"), torch.float32, mask if side == "right" else mask.flip(1), None, 80)


@torch.inference_mode()
def test_a_sequence_has_the_same_bits_alone_and_in_any_batch() -> None:
    terms = make("all").float()
    mixed, value, sides = draw(terms, sum(LENGTHS))
    assert sides is not None
    offsets = cu_seqlens_of(LENGTHS).to(DEVICE)
    together = complete_in_place(mixed.clone(), value, sides, weights_of(terms), None, offsets)
    for start, stop in itertools.pairwise(offsets.tolist()):
        rows = slice(start, stop)
        alone = complete_in_place(
            mixed[:, :, rows].clone(), value[:, :, rows], sides[:, rows], weights_of(terms),
            None, None,
        )  # fmt: skip
        assert torch.equal(alone, together[:, :, rows])


@torch.inference_mode()
def test_what_is_no_number_stays_in_its_sequence() -> None:
    terms = make("all").float()
    mixed, value, sides = draw(terms, 90)
    offsets = cu_seqlens_of([30, 20, 40]).to(DEVICE)
    clean = complete_in_place(mixed.clone(), value, sides, weights_of(terms), None, offsets)
    for place, part in enumerate((value, sides)):
        assert part is not None
        broken = part.clone()
        if place == 0:
            broken[:, :, 35] = torch.nan
        else:
            broken[:, 35] = torch.nan
        given = (broken, sides) if place == 0 else (value, broken)
        found = complete_in_place(mixed.clone(), *given, weights_of(terms), None, offsets)
        assert torch.equal(found[:, :, :30], clean[:, :, :30])
        assert torch.equal(found[:, :, 50:], clean[:, :, 50:])
        assert bool(found[:, :, 30:50].isnan().all())


def test_the_layer_runs_the_kernels_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not gpu.completes(torch.empty(1, 1, 1, 32), torch.empty(1, 1, 1, 32)), "on a CPU"
    terms = make("all").float()
    mixed, value, sides = draw(terms, 9)
    context = TokenContext(None, cu_seqlens_of([4, 5]).to(DEVICE), None)
    with use_kernel("torch"):
        truth = terms(mixed, value, sides, context)
        wanted = torch.autograd.grad(truth.square().sum(), tuple(terms.parameters()))
    monkeypatch.setattr(gpu, "completes", lambda *states: True)
    found = terms(mixed, value, sides, context)
    got = torch.autograd.grad(found.square().sum(), tuple(terms.parameters()))
    assert error(found.detach(), truth.detach()) <= ERROR[torch.float32]
    for part, expected in zip(got, wanted, strict=True):
        assert error(part, expected) <= 2 * ERROR[torch.float32]
    with torch.no_grad(), use_kernel("triton"):  # not the CPU's
        in_place = terms(mixed, value, sides, context)
    assert in_place.data_ptr() == mixed.data_ptr()
    assert torch.equal(in_place, found)


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_large_batches() -> None:
    lengths = [1, 700, 0, 2048, 64, 511, 512, 513]
    compare(make("all"), torch.float32, None, cu_seqlens_of(lengths).to(DEVICE), sum(lengths))
