"""Rows of the residual stream in one pass: against torch in float64, for odd widths too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from osa.model.errors import InputError
from osa.model.kernels import native, rows
from osa.model.mixers.base import rotate

pytestmark = pytest.mark.skipif(not rows.available(), reason="the CPU kernel is not built")


@pytest.fixture(params=native.instruction_sets())
def _instruction_set(request: pytest.FixtureRequest) -> object:
    before = native.instruction_set()
    native.use_instruction_set(request.param)
    yield
    native.use_instruction_set(before)


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize("width", [1, 7, 16, 33, 384])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 8])
def test_sums_and_norms_are_those_of_float64(width: int, count: int) -> None:
    hidden = torch.randn(67, width)
    parts = [torch.randn(67, width).bfloat16() for _ in range(count)]
    weight = torch.rand(width) + 0.5
    expected = hidden.double() + sum(part.double() for part in parts)
    norm = F.rms_norm(expected, (width,), weight.double(), eps=1e-6)
    output = rows.add_norm(hidden, parts, weight, 1e-6)
    assert output is not None
    np.testing.assert_allclose(hidden, expected, atol=1e-5)
    np.testing.assert_allclose(output.float(), norm, rtol=2**-8, atol=1e-6)


def test_without_a_norm_only_the_sum_is_made() -> None:
    hidden, part = torch.randn(3, 8), torch.randn(3, 8).bfloat16()
    expected = hidden + part.float()
    assert rows.add_norm(hidden, [part], None, 1e-6) is None
    assert torch.equal(hidden, expected)


@pytest.mark.usefixtures("_instruction_set")
@pytest.mark.parametrize(("heads", "width"), [(1, 2), (2, 8), (3, 32), (2, 128)])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_heads_are_normalised_and_rotated_and_values_left_alone(
    heads: int, width: int, normalize: bool, positions: bool
) -> None:
    states = torch.randn(40, 3, heads, width).bfloat16()
    values = states[:, 2].clone()
    angles = torch.randn(40, width // 2)
    rotary = (angles.cos(), angles.sin()) if positions else None
    query, key = states[:, 0].double(), states[:, 1].double()
    if normalize:
        query, key = (F.rms_norm(part, (width,), eps=1e-6) for part in (query, key))
    if rotary is not None:
        query, key = (rotate(part[None], rotary[0][None], rotary[1][None])[0]
                      for part in (query, key))  # fmt: skip
    rows.prepare_heads(states, rotary, normalize, 1e-6)
    for found, expected in ((states[:, 0], query), (states[:, 1], key)):
        np.testing.assert_allclose(found.float(), expected, rtol=2**-8, atol=1e-3)
    assert torch.equal(states[:, 2], values)


def test_a_row_has_the_same_bits_alone_and_on_any_number_of_threads() -> None:
    hidden, part, weight = torch.randn(300, 384), torch.randn(300, 384).bfloat16(), torch.rand(384)
    together = hidden.clone()
    output = rows.add_norm(together, [part], weight, 1e-6)
    assert output is not None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        for row in (0, 31, 32, 299):
            one = hidden[row : row + 1].clone()
            alone = rows.add_norm(one, [part[row : row + 1]], weight, 1e-6)
            assert alone is not None
            assert torch.equal(alone[0], output[row])
            assert torch.equal(one[0], together[row])
    finally:
        torch.set_num_threads(before)


def test_sizes_that_cannot_be_are_refused() -> None:
    parts = [torch.zeros(1, 4, dtype=torch.bfloat16)] * 8
    assert rows.add_norm(torch.zeros(1, 4), parts, None, 1e-6) is None
    with pytest.raises(InputError, match="osa_prepare_heads: sizes must not be negative"):
        rows.prepare_heads(torch.zeros(1, 3, 1, 130, dtype=torch.bfloat16), None, True, 1e-6)
