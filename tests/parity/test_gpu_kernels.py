"""Accuracy of the Triton kernels: against float64, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from osa.model.functional.varlen import cu_seqlens_of
from osa.model.kernels import gpu
from osa.model.kernels.gpu import tuning
from tests.parity.gpu_setup import (
    BACKWARD_ERROR,
    CUDA,
    DEVICE,
    FORWARD_ERROR,
    TILES,
    angle_for,
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

gpu_only = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not CUDA, reason="no CUDA device")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of NaN


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch)


CASES = [  # width, length, dtype, scale, center
    (32, 1, torch.float32, "paper", False),
    (32, 2, torch.float32, "length", True),
    (32, 31, torch.bfloat16, "length", True),
    (32, 130, torch.float16, "length", False),
    (32, 600, torch.float32, "length", True),
    (64, 64, torch.float32, "length", False),
    (64, 65, torch.bfloat16, "paper", True),
    (128, 130, torch.float16, "length", True),
]
"""Every width, type, scale and centring; one token, a tile and more, a chunk and more, several."""
if CUDA:  # cases that differ on a device and take seconds in the interpreter
    CASES += [
        (32, 65, torch.float32, "length", True),
        (64, 1, torch.bfloat16, "length", True),
        (64, 600, torch.bfloat16, "length", True),
        (128, 31, torch.float32, "length", True),
        (128, 65, torch.bfloat16, "length", False),
    ]
cases = pytest.mark.parametrize(("width", "length", "dtype", "scale", "center"), CASES)
PAPER = 0.05
"""What an angle is multiplied by where the sum is not divided by the length."""


@cases
def test_forward(width: int, length: int, dtype: torch.dtype, scale: str, center: bool) -> None:
    operands = draw(length, width, dtype, batch=1 + (length < 100), heads=2)
    alpha = torch.tensor([0.7, -0.3], device=DEVICE) * (PAPER if scale == "paper" else 1.0)
    output = forward(*operands, alpha, None, None, scale, center)
    assert output.dtype == dtype
    assert output.transpose(1, 2).is_contiguous()
    assert error(output, reference(operands, alpha, None, scale, center)) <= FORWARD_ERROR[dtype]


@cases
def test_gradients(width: int, length: int, dtype: torch.dtype, scale: str, center: bool) -> None:
    operands = draw(length, width, dtype, count=4)
    alpha = torch.tensor([0.7], device=DEVICE) * (PAPER if scale == "paper" else 1.0)
    grads = backward(operands[3], *operands[:3], alpha, None, None, scale, center)
    truths = reference_gradients(operands[3], operands[:3], alpha, None, scale, center)
    assert [part.dtype for part in grads] == [dtype, dtype, dtype, alpha.dtype]
    if length > 2:
        assert worst(grads, truths, operands[3]) <= BACKWARD_ERROR[dtype]
        return
    for got, truth in zip(grads, truths, strict=True):  # small angles, or zero
        assert float((got - truth).abs().max()) <= 4 * BACKWARD_ERROR[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_of_the_device(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tuning.TUNINGS, dtype, TILES[dtype])
    *operands, grad = draw(70, 32, dtype, count=4)
    alpha = torch.tensor([0.5], device=DEVICE)
    output = forward(*operands, alpha, None, None, "length", True)
    truth = reference(tuple(operands), alpha, None, "length", True)
    assert error(output, truth) <= FORWARD_ERROR[dtype]
    grads = backward(grad, *operands, alpha, None, None, "length", True)
    truths = reference_gradients(grad, tuple(operands), alpha, None, "length", True)
    assert worst(grads, truths, grad) <= BACKWARD_ERROR[dtype]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.bfloat16, 0.15)])
def test_large_angles_are_doubled(dtype: torch.dtype, bound: float) -> None:
    operands = draw(150, 32, dtype)
    alpha = angle_for(operands, 40.0, False)
    output = forward(*operands, alpha, None, None, "length", False)
    assert error(output, reference(operands, alpha, None, "length", False)) <= bound


@pytest.mark.parametrize(
    ("radians", "dtype"),
    [(2.5, torch.float32), (8.0, torch.float32), (8.0, torch.bfloat16)]
    + [(2.5, torch.bfloat16)] * CUDA,
)
def test_several_steps(radians: float, dtype: torch.dtype) -> None:
    operands = draw(200, 32, dtype, count=4)
    alpha = angle_for(operands, radians, False)
    output = forward(*operands[:3], alpha, None, None, "length", False)
    truth = reference(operands[:3], alpha, None, "length", False)
    assert error(output, truth) <= FORWARD_ERROR[dtype]
    if dtype == torch.float32 and (CUDA or radians < 8):  # the interpreter takes half a minute
        grads = backward(operands[3], *operands[:3], alpha, None, None, "length", False)
        truths = reference_gradients(operands[3], operands[:3], alpha, None, "length", False)
        assert worst(grads, truths, operands[3]) <= BACKWARD_ERROR[dtype]


@gpu_only
@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", gpu.HEAD_DIMS)
def test_large_batches(width: int, dtype: torch.dtype) -> None:
    lengths = [1, 700, 0, 2048, 64, 511, 512, 513]
    operands = draw(sum(lengths), width, dtype, heads=6, count=4)
    offsets = cu_seqlens_of(lengths).to(DEVICE)
    alpha = torch.linspace(0.1, 1.0, 6, device=DEVICE)
    output = forward(*operands[:3], alpha, None, offsets, "length", True)
    truth = packed_reference(operands[:3], alpha, offsets, "length", True)
    assert error(output, truth) <= FORWARD_ERROR[dtype]
    grads = backward(operands[3], *operands[:3], alpha, None, offsets, "length", True)
    span = slice(1, 701)
    alone = tuple(part[:, :, span] for part in operands)
    truths = reference_gradients(alone[3], alone[:3], alpha, None, "length", True)
    for got, expected in zip(grads[:3], truths[:3], strict=True):
        assert error(got[:, :, span], expected) <= BACKWARD_ERROR[dtype]


@gpu_only
@needs_cuda
def test_captured_graph_serves_other_lengths() -> None:
    operands = draw(1024, 64, torch.bfloat16, heads=4)
    alpha = torch.ones(4, device=DEVICE)
    offsets = cu_seqlens_of([100, 924]).to(DEVICE)
    options = (alpha, None, offsets, "length", True)
    forward(*operands, *options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = forward(*operands, *options)
    offsets.copy_(cu_seqlens_of([600, 424]).to(DEVICE))
    graph.replay()
    assert torch.equal(output, forward(*operands, *options))
