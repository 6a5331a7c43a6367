"""Packed weights: their layout, their padding, and what rounding costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from osa.model.kernels.packed_weights import DTYPES, GROUP, pack, pad_outputs, padded, unpack

WORDS = {"float32": 1, "bfloat16": 2, "int8": 4}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_panel_holds_words_of_inputs_of_32_outputs(dtype: str) -> None:
    weight = torch.randint(-127, 128, (64, 128)).float()
    weight[:, 0] = 127.0  # so that 8 bits hold whole numbers as they are
    packed, word = pack(weight, dtype), WORDS[dtype]
    assert packed.data.shape == (2, 128 // word, 32, word)
    assert packed.inputs == 128
    for panel, place, output, part in ((0, 0, 0, 0), (1, 31, 31, word - 1), (1, 5, 7, 0)):
        value = packed.data[panel, place, output, part]
        assert value == weight[32 * panel + output, word * place + part]


@pytest.mark.parametrize(("dtype", "unit"), [("float32", 32), ("bfloat16", 32), ("int8", 64)])
def test_widths_are_rounded_up(dtype: str, unit: int) -> None:
    assert [padded(width, dtype) for width in (1, unit, unit + 1)] == [unit, unit, 2 * unit]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("outputs", "inputs", "parts"), [(6, 7, 1), (96, 40, 3), (64, 800, 2)])
def test_what_is_packed_comes_back_as_it_was_rounded(
    dtype: str, outputs: int, inputs: int, parts: int
) -> None:
    weight = torch.randn(outputs, inputs)
    found = unpack(pack(weight, dtype, parts))
    assert found.shape == (parts * padded(outputs // parts, dtype), padded(inputs, dtype))
    assert not found[:, inputs:].any()
    split = found.unflatten(0, (parts, -1))
    size = outputs // parts
    assert not split[:, size:].any()
    real = split[:, :size].flatten(0, 1)[:, :inputs]
    if dtype == "float32":
        assert torch.equal(real, weight)
    elif dtype == "bfloat16":
        assert torch.equal(real, weight.bfloat16().float())
    else:
        step = weight.abs().amax(1, keepdim=True) / 127
        assert ((real - weight).abs() <= 0.5001 * step).all()


def test_totals_are_sums_over_groups_of_inputs() -> None:
    weight = torch.randn(32, 2 * GROUP + 64)
    packed = pack(weight, "int8")
    assert packed.scale is not None
    assert packed.totals is not None
    numbers = unpack(packed) / packed.scale.clamp_min(1e-30)[:, None]
    expected = [part.sum(1) for part in numbers.split(GROUP, dim=1)]
    np.testing.assert_allclose(packed.totals, torch.stack(expected), atol=0.1)
    assert torch.equal(packed.totals, packed.totals.round())


def test_a_row_of_zeros_is_packed() -> None:
    packed = pack(torch.zeros(32, 64), "int8")
    assert not unpack(packed).any()


def test_biases_of_joined_layers_are_padded_each() -> None:
    found = pad_outputs(torch.arange(1.0, 7.0), 3, "float32")
    assert found.shape == (96,)
    assert found[[0, 1, 32, 33, 64, 65]].tolist() == [1, 2, 3, 4, 5, 6]
    assert found.sum() == 21
