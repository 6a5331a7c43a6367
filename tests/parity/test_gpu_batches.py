"""Batches of the Triton kernels: packed, padded, with NaN, views, empty."""

from __future__ import annotations

import itertools

import pytest
import torch

from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import gpu
from tests.parity.gpu_setup import (
    BACKWARD_ERROR,
    CUDA,
    DEVICE,
    FORWARD_ERROR,
    backward,
    draw,
    error,
    forward,
    packed_reference,
    reference,
    reference_gradients,
    use_small_tiles,
    worst,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of NaN


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch)


@pytest.mark.parametrize(
    ("dtype", "center"),
    [(torch.float32, False), (torch.bfloat16, True)] + [(torch.float32, True)] * CUDA,
)
def test_packed_equals_each_alone_to_the_bit(dtype: torch.dtype, center: bool) -> None:
    lengths = [0, 5, 150, 0, 33, 1, 0]
    operands = draw(sum(lengths), 32, dtype, count=4)
    alpha = torch.tensor([0.5], device=DEVICE, dtype=torch.float64)
    offsets = cu_seqlens_of(lengths).to(DEVICE)
    options = (alpha, None, offsets.long(), "length", center)
    output = forward(*operands[:3], *options)
    grads = backward(operands[3], *operands[:3], *options)
    assert grads[3].dtype == torch.float64
    truth = packed_reference(operands[:3], alpha, offsets, "length", center)
    assert error(output, truth) <= FORWARD_ERROR[dtype]
    for begin, end in itertools.pairwise(offsets.tolist()):
        alone = tuple(operand[:, :, begin:end] for operand in operands)
        single = forward(*alone[:3], alpha, None, None, "length", center)
        assert torch.equal(single, output[:, :, begin:end])
        if end - begin in (5, 150):
            parts = backward(alone[3], *alone[:3], alpha, None, None, "length", center)
            for part, whole in zip(parts[:3], grads[:3], strict=True):
                assert torch.equal(part, whole[:, :, begin:end])


def test_packed_gradients() -> None:
    operands = draw(70, 32, torch.float32, count=4)
    offsets = cu_seqlens_of([40, 30]).to(DEVICE)
    alpha = torch.ones(1, device=DEVICE)
    grads = backward(operands[3], *operands[:3], alpha, None, offsets, "length", True)
    truths = [
        reference_gradients(part[3], part[:3], alpha, None, "length", True)
        for part in (
            tuple(operand[:, :, span] for operand in operands)
            for span in (slice(0, 40), slice(40, 70))
        )
    ]
    joined = [torch.cat([part[index] for part in truths], dim=2) for index in range(3)]
    summed = (*joined, truths[0][3] + truths[1][3])
    assert worst(grads, summed, operands[3]) <= BACKWARD_ERROR[torch.float32]


@pytest.mark.parametrize(
    ("dtype", "scale", "center"),
    [(torch.float32, "paper", False), (torch.bfloat16, "length", True)]
    + [(torch.float32, "length", True)] * CUDA,
)
def test_padding_changes_nothing(dtype: torch.dtype, scale: str, center: bool) -> None:
    mask = torch.ones(3, 140, dtype=torch.bool, device=DEVICE)
    mask[0, 77:] = False
    mask[1] = False
    mask[2, ::3] = False
    operands = tuple(
        part.masked_fill(~mask[:, None, :, None], torch.nan)
        for part in draw(140, 32, dtype, batch=3, count=4)
    )
    clean = tuple(part.nan_to_num(0.0) for part in operands)
    alpha = torch.tensor([0.02 if scale == "paper" else 1.0], device=DEVICE)
    output = forward(*operands[:3], alpha, mask, None, scale, center)
    truth = reference(clean[:3], alpha, mask, scale, center)
    assert error(output, truth) <= FORWARD_ERROR[dtype]
    grads = backward(operands[3], *operands[:3], alpha, mask, None, scale, center)
    truths = reference_gradients(clean[3], clean[:3], alpha, mask, scale, center)
    assert worst(grads, truths, operands[3]) <= BACKWARD_ERROR[dtype]
    for part in (output, *grads[:3]):
        assert not part.transpose(1, 2)[~mask].any()
    short = tuple(part[:1, :, :77] for part in operands)
    alone = forward(*short[:3], alpha, None, None, scale, center)
    assert torch.equal(alone, output[:1, :, :77])


def test_nan_stays_in_its_sequence() -> None:
    operands = draw(90, 32, torch.float32, count=4)
    offsets = cu_seqlens_of([30, 20, 40]).to(DEVICE)
    options = (torch.full([1], 0.1, device=DEVICE), None, offsets, "length", True)
    clean = forward(*operands[:3], *options)
    clean_grads = backward(operands[3], *operands[:3], *options)
    for poison in (torch.nan, torch.inf):
        broken = operands[0].clone()
        broken[:, :, 35] = poison
        output = forward(broken, *operands[1:3], *options)
        grads = backward(operands[3], broken, *operands[1:3], *options)
        for got, good in zip((output, *grads[:3]), (clean, *clean_grads[:3]), strict=True):
            assert torch.equal(got[:, :, :30], good[:, :, :30])
            assert torch.equal(got[:, :, 50:], good[:, :, 50:])
            assert bool(got[:, :, 30:50].isnan().all())


def test_beyond_the_largest_angle_is_nan() -> None:
    operands = draw(20, 32, torch.float32, count=4)
    alpha = torch.tensor([1e6], device=DEVICE)
    assert bool(forward(*operands[:3], alpha, None, None, "paper", False).isnan().all())
    grads = backward(operands[3], *operands[:3], alpha, None, None, "paper", False)
    assert all(bool(part.isnan().all()) for part in grads)


def test_dependent_features() -> None:
    query, key, value, grad = draw(150, 32, torch.float32, count=4)
    query = query[..., :5] @ torch.randn(5, 32, device=DEVICE) / 3
    key = torch.cat([query[..., :16], key[..., :16]], dim=-1)
    alpha = torch.tensor([0.5], device=DEVICE)
    operands = (query, key, value)
    output = forward(*operands, alpha, None, None, "length", False)
    truth = reference(operands, alpha, None, "length", False)
    assert error(output, truth) <= FORWARD_ERROR[torch.float32]
    equal = forward(query, query, value, alpha, None, None, "length", False)
    assert error(equal, value) <= FORWARD_ERROR[torch.float32]  # S = 0
    grads = backward(grad, *operands, alpha, None, None, "length", False)
    truths = reference_gradients(grad, operands, alpha, None, "length", False)
    assert worst(grads, truths, grad) <= BACKWARD_ERROR[torch.float32]


def test_alpha_zero_is_the_identity() -> None:
    operands = draw(40, 32, torch.bfloat16, count=4)
    alpha = torch.zeros(1, device=DEVICE)
    output = forward(*operands[:3], alpha, None, None, "length", True)
    assert torch.equal(output, operands[2])
    grads = backward(operands[3], *operands[:3], alpha, None, None, "length", True)
    assert torch.equal(grads[2], operands[3])
    assert not grads[0].any()
    truths = reference_gradients(operands[3], operands[:3], alpha, None, "length", True)
    assert error(grads[3], truths[3]) <= BACKWARD_ERROR[torch.bfloat16]


@pytest.mark.parametrize("batch", [1, 2])
def test_views_need_no_copy(batch: int) -> None:
    joint = torch.randn(batch, 20, 3, 2, 32, device=DEVICE)
    views = tuple(joint[:, :, index].transpose(1, 2) for index in range(3))
    grad = torch.randn(batch, 2, 20, 32, device=DEVICE)
    uneven = (*views[:2], torch.randn(batch, 2, 32, 20, device=DEVICE).mT)
    alpha = torch.full([2], 0.05, device=DEVICE)
    options = (alpha, None, None, "length", True)
    for operands in (views, uneven)[:batch]:
        plain = tuple(part.contiguous() for part in operands)
        assert torch.equal(forward(*operands, *options), forward(*plain, *options))
    for got, expected in zip(
        backward(grad, *views, *options),
        backward(grad, *(part.contiguous() for part in views), *options),
        strict=True,
    ):
        assert torch.equal(got, expected)
        assert got.shape == expected.shape


@pytest.mark.parametrize(("batch", "length"), [(0, 4), (2, 0), (1, 0)])
def test_nothing_to_do(batch: int, length: int) -> None:
    states = torch.zeros(batch, 2, length, 32, device=DEVICE)
    alpha = torch.ones(2, device=DEVICE)
    offsets = torch.zeros(4, dtype=torch.int32, device=DEVICE) if batch == 1 else None
    output = forward(*(states,) * 3, alpha, None, offsets, "length", True)
    assert output.shape == states.shape
    grads = backward(*(states,) * 4, alpha, None, offsets, "length", True)
    assert all(part.shape == states.shape for part in grads[:3])
    assert torch.equal(grads[3], torch.zeros_like(alpha))


def test_offsets_that_lie_are_harmless() -> None:
    operands = draw(64, 32, torch.float32)
    for offsets in ([0, 1000, 64], [5, -7, 40], [0, 50, 20, 64]):
        wrong = torch.tensor(offsets, device=DEVICE)
        output = forward(*operands, torch.ones(1, device=DEVICE), None, wrong, "length", True)
        assert output.shape == operands[0].shape


def test_unsupported_says_why() -> None:
    assert gpu.unsupported(torch.zeros(1, 1, 1, 64)) is None
    assert "width" in (gpu.unsupported(torch.zeros(1, 1, 1, 48)) or "")
    assert "float64" in (gpu.unsupported(torch.zeros(1, 1, 1, 64).double()) or "")
    with gpu.assumed_capability((7, 5)):
        assert "use float16" in (gpu.unsupported(torch.zeros(1, 1, 1, 64).bfloat16()) or "")
        assert gpu.unsupported(torch.zeros(1, 1, 1, 64).half()) is None
