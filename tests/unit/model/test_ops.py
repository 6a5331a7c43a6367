"""The operator ``osa::attention``: registrations, gradients, precision, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.attention import osa_dense
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.ops import attention


def operands(
    batch: int = 2, length: int = 7, width: int = 3, grad: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    states = [
        torch.randn(batch, 2, length, width, dtype=torch.float64, requires_grad=grad)
        for _ in range(3)
    ]
    alpha = torch.tensor([0.8, -1.7], dtype=torch.float64, requires_grad=grad)
    return states[0], states[1], states[2], alpha


MASK = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


@pytest.mark.parametrize(
    ("length", "scale", "center"),
    [
        *itertools.product([1, 4], ["paper", "length"], [False, True]),
        (7, "paper", False),
        (7, "length", True),
    ],
)
def test_gradients_are_derivatives(length: int, scale: str, center: bool) -> None:
    """Length 7 at width 3 is beyond 2d: feature space; 4 is token space."""
    mask = MASK[:, :length]
    assert torch.autograd.gradcheck(
        lambda *parts: attention(*parts, mask, None, scale, center), operands(length=length)
    )


@pytest.mark.parametrize("center", [False, True])
def test_gradients_of_packed_batches_are_derivatives(center: bool) -> None:
    offsets = cu_seqlens_of([3, 0, 9, 1])
    assert torch.autograd.gradcheck(
        lambda *parts: attention(*parts, None, offsets, "length", center),
        operands(batch=1, length=13),
    )


def test_gradients_survive_large_angles() -> None:
    query, key, value, _ = operands()
    alpha = torch.tensor([6.0, 11.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (query, key, value, alpha))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_registrations_pass_opcheck(dtype: torch.dtype, packed: bool) -> None:
    """float64 runs in plain torch, float32 in the CPU kernel if it is built."""
    batch = 1 if packed else 2
    offsets = cu_seqlens_of([3, 4]) if packed else None
    states = [part.detach().to(dtype).requires_grad_() for part in operands(batch)]
    arguments = (*states, None if packed else MASK, offsets, "length", True)
    torch.library.opcheck(torch.ops.osa.attention.default, arguments)


def test_exported_programs_hold_the_operator() -> None:
    """One node, any number of tokens; the kernel is chosen where the program runs."""

    class Attend(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, alpha: Tensor) -> Tensor:
            mixed: Tensor = attention(query, key, value, alpha, None, None, "length", False)
            return mixed

    parts = tuple(part.float() for part in operands(length=40, grad=False))
    tokens = torch.export.Dim("tokens", min=2, max=4096)
    shapes = {name: {2: tokens} for name in ("query", "key", "value")} | {"alpha": None}
    program = torch.export.export(Attend(), parts, dynamic_shapes=shapes)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.osa.attention.default]
    other = tuple(part.float() for part in operands(length=9, grad=False))
    assert torch.equal(program.module()(*other), Attend()(*other))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("length", [5, 40])
def test_half_precision_is_rounded_once(dtype: torch.dtype, tolerance: float, length: int) -> None:
    query, key, value, alpha = (part.to(dtype) for part in operands(length=length, grad=False))
    truth = osa_dense(query.double(), key.double(), value.double(), alpha.double())
    result = attention(query, key, value, alpha)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), truth, rtol=tolerance, atol=tolerance)


def test_autocast_does_not_reach_inside() -> None:
    query, key, value, alpha = (part.float() for part in operands(length=40, grad=False))
    expected = attention(query, key, value, alpha)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(query, key, value, alpha), expected)


def test_neighbours_that_are_not_numbers_stay_neighbours() -> None:
    query, key, value, alpha = operands(batch=1, length=12, grad=False)
    offsets = cu_seqlens_of([5, 7])
    expected = attention(query, key, value, alpha, None, offsets)
    for part in (query, key, value):
        part[:, :, 5:] = torch.nan
    result = attention(query, key, value, alpha, None, offsets)
    assert torch.equal(result[:, :, :5], expected[:, :, :5])
    assert bool(torch.isnan(result[:, :, 5:]).all())


def test_padding_that_is_not_a_number_is_ignored() -> None:
    query, key, value, alpha = operands(grad=False)
    expected = attention(query, key, value, alpha, MASK)
    for part in (query, key, value):
        part[1, :, 4:] = torch.nan
    assert torch.equal(attention(query, key, value, alpha, MASK), expected)


def test_compiled_code_calls_the_operator() -> None:
    query, key, value, alpha = operands(grad=False)
    compiled = torch.compile(lambda *parts: attention(*parts) * 2, backend="aot_eager")
    torch.testing.assert_close(
        compiled(query, key, value, alpha), attention(query, key, value, alpha) * 2
    )


def test_operands_that_do_not_fit_are_refused() -> None:
    query, key, value, alpha = operands(grad=False)
    offsets = cu_seqlens_of([7])
    cases: list[tuple[tuple[object, ...], str]] = [
        ((query, key[:, :, :-1], value, alpha), r"share one shape"),
        ((query[0], key[0], value[0], alpha), r"share one shape"),
        ((query, key, value, alpha[:1]), r"alpha must be \[2\]"),
        ((query, key, value, alpha, MASK, offsets), "not both"),
        ((query, key, value, alpha.to("meta")), "share one device, got cpu, meta"),
        ((query, key, value, alpha, None, offsets), "batch size 1"),
        ((query, key, value, alpha, MASK[:, :3]), r"mask must be bool \[2, 7\]"),
        ((query, key, value, alpha, MASK.float()), r"mask must be bool"),
        ((query, key, value, alpha, None, None, "width"), "paper, length"),
        ((query[:1], key[:1], value[:1], alpha, None, cu_seqlens_of([3, 3])), "7 packed tokens"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            attention(*arguments)
