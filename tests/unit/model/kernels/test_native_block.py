"""The block between two attentions: against float64 in every dtype on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import native
from osa.model.kernels.native_block import (
    ACTIVATIONS,
    STATES,
    Affine,
    Layer,
    Shape,
    Transform,
    compute,
    fits,
    is_available,
)
from osa.model.kernels.packed_weights import DTYPES, pack, padded
from osa.model.layers.block import ACTIVATIONS as FUNCTIONS
from tests.block_reference import EPS, Rotary, Weights

pytestmark = pytest.mark.skipif(not is_available(), reason="needs the CPU kernel")

TOLERANCE = {"float32": 2e-5, "bfloat16": 0.02, "int8": 0.06}
"""Of sums that a rounding to the neighbour changes; int8 is compared with int8."""


class Run:
    """Hidden states and states after one call."""

    def __init__(self, done: Weights | None, coming: Weights | None, hidden: Tensor,
                 mixed: Tensor | None, rotary: Rotary | None = None):  # fmt: skip
        layer = done or coming
        assert layer is not None
        width = padded(layer.width, layer.dtype)
        own = F.pad(hidden, (0, width - layer.width)).contiguous()
        states = torch.zeros(len(hidden), 3, width, dtype=STATES[layer.dtype])
        shape = Shape(layer.width, layer.heads, layer.dtype, EPS, EPS)
        packed = [None if part is None else part.packed for part in (done, coming)]
        compute(Transform(shape, *packed).call(own, mixed, states, rotary))
        self.padding = own[:, layer.width :]
        self.hidden = own[:, : layer.width]
        self.states = states[:, :, : layer.width].unflatten(2, (layer.heads, -1))


def make_inputs(weights: Weights, rows: int) -> tuple[Tensor, Tensor]:
    hidden = torch.randn(rows, weights.width)
    return hidden, torch.randn(rows, weights.width).to(STATES[weights.dtype])


def angles(rows: int, weights: Weights) -> Rotary:
    turns = torch.randn(rows, weights.width // weights.heads // 2)
    return turns.cos(), turns.sin()


def check(weights: Weights, rows: int, rotary: Rotary | None = None) -> None:
    hidden, mixed = make_inputs(weights, rows)
    expected = weights.second_half(hidden.double(), mixed)
    found = Run(weights, weights, hidden, mixed, rotary)
    if not rows:
        return
    scale = max(1.0, expected.abs().max().item() / 4)
    atol = TOLERANCE[weights.dtype] * scale
    np.testing.assert_allclose(found.hidden, expected, atol=atol)
    assert (found.hidden - expected).abs().mean() < atol / 20
    assert not found.padding.any()
    wanted = weights.first_half(found.hidden.double(), rotary)
    rtol = 1e-5 if weights.dtype == "float32" else 2**-7
    np.testing.assert_allclose(found.states.float(), wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 7, 12, 13, 33, 300])
def test_both_halves_are_those_of_float64(products: str, dtype: str, rows: int) -> None:
    weights = Weights(dtype, 128, 832, 4)
    check(weights, rows, angles(rows, weights))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("width", "inner", "heads"),
    [(384, 1536, 12), (32, 32, 1), (48, 100, 3), (40, 8, 5), (100, 33, 1), (800, 500, 25)],
)
def test_widths_of_any_size(products: str, dtype: str, width: int, inner: int, heads: int) -> None:
    weights = Weights(dtype, width, inner, heads)
    check(weights, 50, angles(50, weights))
    check(weights, 5)


KINDS: dict[str, dict[str, Any]] = {
    "bert": {"layer_norm": True, "post": True, "biases": True, "normalize": False},
    "gte": {"layer_norm": True, "post": True, "biases": True, "gated": True},
    "nomic": {"layer_norm": True, "post": True, "gated": True, "activation": "silu"},
    "modernbert": {"layer_norm": True, "gated": True},
    "rms after the sums": {"post": True},
    "without norms": {"norms": False},
    "without residual": {"residual": False},
    "without projections": {"without": ("out",)},
    "without feed-forward": {"without": ("up", "down"), "biases": True},
    "mixers alone": {"without": ("out", "up", "down"), "residual": False},
    "mixers alone, after": {"without": ("out", "up", "down"), "post": True, "biases": True},
    "without residual, after": {"residual": False, "post": True, "biases": True},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_block(products: str, dtype: str, kind: str) -> None:
    check(Weights(dtype, 64, 416, 2, **KINDS[kind]), 70)
    check(Weights(dtype, 56, 100, 2, **KINDS[kind]), 20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_half_may_come_alone(products: str, dtype: str) -> None:
    weights = Weights(dtype, 64, 64, 2)
    hidden, mixed = make_inputs(weights, 40)
    together = Run(weights, weights, hidden, mixed)
    first = Run(weights, None, hidden, mixed)
    assert torch.equal(first.hidden, together.hidden)
    assert not first.states.any()
    second = Run(None, weights, first.hidden, None)
    assert torch.equal(second.hidden, together.hidden)
    assert torch.equal(second.states, together.states)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_as_exact_as_its_dtype(
    products: str, dtype: str, activation: str
) -> None:
    weights = Weights(dtype, 32, 32, 1, activation=activation)
    scale, eye = torch.full((32,), 2.0), Layer(pack(torch.eye(32), dtype))
    weights.packed = weights.packed._replace(up=eye, down=eye, feed_forward_norm=Affine(scale))
    hidden = torch.randn(2000, 32) * torch.cat([torch.ones(31), torch.tensor([30.0])])
    inputs = weights.read(F.rms_norm(hidden.double(), (32,), scale.double(), EPS))
    assert inputs.abs().max() > 11
    assert (inputs.abs() < 1e-2).any()
    expected = weights.read(FUNCTIONS[activation](inputs))
    mixed = torch.zeros(2000, 32, dtype=STATES[dtype])
    found = Run(weights, None, hidden, mixed)
    tolerance = {"float32": 1e-5, "bfloat16": 1.5e-4}[dtype]  # of the sum with up to 100
    relative = {"float32": 1e-6, "bfloat16": 2**-7}[dtype]
    np.testing.assert_allclose(found.hidden - hidden, expected, rtol=relative, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_alone_and_on_any_number_of_threads(
    products: str, dtype: str
) -> None:
    rows = 300
    weights = Weights(dtype, 384, 1536, 12)
    (hidden, mixed), rotary = make_inputs(weights, rows), angles(rows, weights)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(Run(weights, weights, hidden, mixed, rotary))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(other.hidden, found[0].hidden)
        assert torch.equal(other.states, found[0].states)
    for first, count in ((0, 1), (299, 1), (31, 2), (5, 3), (90, 11), (7, 12), (64, 64), (3, 40)):
        some = slice(first, first + count)
        turn = (rotary[0][some], rotary[1][some])
        own = Run(weights, weights, hidden[some], mixed[some], turn)
        assert torch.equal(own.hidden, found[0].hidden[some])
        assert torch.equal(own.states, found[0].states[some])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_keeps_to_itself(products: str, dtype: str, value: float) -> None:
    weights = Weights(dtype, 64, 128, 2)
    hidden, mixed = make_inputs(weights, 40)
    fine = Run(weights, weights, hidden, mixed)
    mixed[7, 3], hidden[20, 5] = value, value
    broken = Run(weights, weights, hidden, mixed)
    others = [row for row in range(40) if row not in (7, 20)]
    assert torch.equal(broken.hidden[others], fine.hidden[others])
    assert torch.equal(broken.states[others], fine.states[others])
    assert not broken.hidden[7].isfinite().any()
    assert not broken.hidden[20].isfinite().all()
    assert not broken.states[20, 2].isfinite().any()


def test_sums_in_8_bits_are_exact(products: str) -> None:
    """To the last of 384 products of 127 by 127: the others sum to all but its opposite."""
    weights = Weights("int8", 384, 64, 12, norms=False, normalize=False)
    signs = torch.ones(384)
    signs[191:383] = -1.0  # 191 products and one more are left over
    packed = pack(signs.expand(3 * 384, 384), "int8", 3)
    weights.packed = weights.packed._replace(qkv=Layer(packed))
    hidden = torch.ones(9, 384)
    hidden[:, 383] = torch.arange(9.0) / 127
    expected = 191.0 - 192.0 + hidden[:, 383:].bfloat16()
    found = Run(None, weights, hidden, None).states.flatten(1).float()
    np.testing.assert_allclose(found, expected.expand_as(found).float(), atol=2.0**-8)


def test_numbers_too_small_for_a_scale_are_zero_in_8_bits(products: str) -> None:
    weights = Weights("int8", 64, 64, 2, norms=False, normalize=False)
    hidden = torch.full((3, 64), 1e-38)
    assert not Run(None, weights, hidden, None).states.any()


def test_sizes_that_cannot_be_are_refused() -> None:
    weights = Weights("float32", 32, 32, 1)
    transform = Transform(Shape(32, 1, "float32", EPS, EPS), None, weights.packed)
    with pytest.raises(InputError, match="multiples of 32"):
        compute(transform.call(torch.zeros(2, 48), None, torch.zeros(2, 3, 48), None))
    wide = Transform(
        Shape(160, 1, "float32", EPS, EPS), None, Weights("float32", 160, 32, 1).packed
    )
    with pytest.raises(InputError, match="head_dim 1 to 128"):
        compute(wide.call(torch.zeros(2, 160), None, torch.zeros(2, 3, 160), None))


def test_heads_up_to_128_features_fit() -> None:
    assert fits(384, 12)
    assert fits(128, 1)
    assert not fits(129, 1)
    assert not fits(100, 3)


def test_a_limit_of_the_instruction_set_limits_products() -> None:
    before = native.instruction_set()
    try:
        for name in native.instruction_sets():
            native.use_instruction_set(name)
            assert native.product_set().split("_")[0] == name.split("_")[0]
    finally:
        native.use_instruction_set(before)


def test_unknown_products_are_refused() -> None:
    with pytest.raises(InputError, match=r"products must be one of .*baseline, got 'mmx'"):
        native.use_product_set("mmx")
