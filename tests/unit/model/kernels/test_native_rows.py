"""Bias and GELU, sum and LayerNorm on CPUs: against float64, and fixed bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from osa.model.errors import InputError
from osa.model.kernels import native, use_kernel
from osa.model.kernels.native_rows import add_and_norm_, gelu_, supports

pytestmark = pytest.mark.skipif(
    isinstance(native.library(), str), reason=f"the CPU kernel {native.library()}"
)
WIDTHS = [1, 3, 16, 47, 384, 1000]


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("biased", [True, False])
@torch.inference_mode()
def test_gelu_is_that_of_float64(width: int, biased: bool) -> None:
    rows = 4 * torch.randn(300, width)
    bias = torch.randn(width) if biased else None
    shifted = rows.double() if bias is None else rows.double() + bias.double()
    found = gelu_(rows.clone(), bias)
    torch.testing.assert_close(found.double(), F.gelu(shifted), atol=1e-6, rtol=2e-6)


@torch.inference_mode()
def test_gelu_at_the_ends() -> None:
    ends = torch.tensor([[-torch.inf, -1e30, -30.0, -0.0, 0.0, 30.0, 1e30, torch.inf, torch.nan]])
    found = gelu_(ends.clone(), None)
    expected = [-0.0, -0.0, 0.0, 0.0, 30.0, 1e30, torch.inf]
    assert found[0, 1:8].tolist() == pytest.approx(expected)
    assert found[0, 8].isnan()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("biased", [True, False])
@torch.inference_mode()
def test_sum_and_norm_are_those_of_float64(width: int, biased: bool) -> None:
    norm = nn.LayerNorm(width, eps=1e-5, bias=biased)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    rows, added = torch.randn(300, width), torch.randn(300, width)
    bias = torch.randn(width) if biased else None
    total = rows.double() + added.double() + (0 if bias is None else bias.double())
    norm_bias = norm.bias.double() if biased else None
    expected = F.layer_norm(total, (width,), norm.weight.double(), norm_bias, 1e-5)
    found = add_and_norm_(rows.clone(), added, bias, norm)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_row_has_the_same_bits_alone_and_on_any_number_of_threads() -> None:
    norm, before = nn.LayerNorm(384), torch.get_num_threads()
    rows, added, bias = torch.randn(900, 384), torch.randn(900, 384), torch.randn(384)
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(
                (add_and_norm_(rows.clone(), added, bias, norm), gelu_(rows.clone(), bias))
            )
    finally:
        torch.set_num_threads(before)
    for summed, activated in found:
        assert torch.equal(summed, found[0][0])
        assert torch.equal(activated, found[0][1])
    for row in (0, 1, 170, 899):
        one = slice(row, row + 1)
        assert torch.equal(
            add_and_norm_(rows[one].clone(), added[one], bias, norm), found[0][0][one]
        )
        assert torch.equal(gelu_(rows[one].clone(), bias), found[0][1][one])


def test_what_it_does_not_handle_is_left_to_torch() -> None:
    assert not supports(torch.zeros(1, 4)), "gradients"
    with torch.inference_mode():
        assert supports(torch.zeros(1, 4))
        assert not supports(torch.zeros(1, 4, dtype=torch.float64))
        with torch.autocast("cpu", torch.bfloat16):
            assert not supports(torch.zeros(1, 4)), "products would give other types"
        with use_kernel("torch"):
            assert not supports(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("rows", "added", "bias"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bfloat16), None),
        (torch.zeros(2, 4), torch.zeros(1, 4), None),
        (torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(3)),
        (torch.zeros(4, 2).T, torch.zeros(2, 4), None),
    ],
)
def test_what_would_be_read_wrongly_is_refused(
    rows: torch.Tensor, added: torch.Tensor, bias: torch.Tensor | None
) -> None:
    with torch.inference_mode(), pytest.raises(InputError, match="must be float32 of shape"):
        add_and_norm_(rows, added, bias, nn.LayerNorm(4))
