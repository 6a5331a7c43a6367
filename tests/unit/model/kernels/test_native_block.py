"""The block between two attentions: against float64, and equal bits for a row at any position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import native
from osa.model.kernels.native_block import (
    ACTIVATIONS,
    Affine,
    Weights,
    available,
    fits,
    pack,
    transform,
)
from osa.model.layers.block import ACTIVATIONS as FUNCTIONS
from osa.model.layers.positions import rotate

EPS = 1e-6
needs_tiles = pytest.mark.skipif(not available(), reason="needs the CPU kernel and AMX")


class Layer:
    """A block's weights, as they are and packed."""

    def __init__(self, width: int, inner: int, activation: str = "gelu"):
        def product(outputs: int, inputs: int) -> Tensor:
            weight: Tensor = torch.randn(outputs, inputs) / inputs**0.5
            return weight.to(torch.bfloat16)

        self.qkv, self.out = product(3 * width, width), product(width, width)
        self.up, self.down = product(inner, width), product(width, inner)
        self.norms = torch.rand(2, width) + 0.5
        self.packed = Weights(
            Affine(self.norms[0]),
            Affine(pack(self.qkv)),
            Affine(pack(self.out)),
            Affine(self.norms[1]),
            Affine(pack(self.up)),
            Affine(pack(self.down)),
            activation,
            True,
        )

    def second_half(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """In float64, but for the operands that are rounded."""
        hidden = hidden + rounded(mixed) @ self.out.double().T
        normed = F.rms_norm(hidden, hidden.shape[1:], self.norms[1].double(), EPS)
        inner = FUNCTIONS[self.packed.activation](rounded(normed) @ self.up.double().T)
        return hidden + rounded(inner) @ self.down.double().T

    def first_half(
        self, hidden: Tensor, heads: int, rotary: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """States [T, 3, H, d], likewise."""
        width = hidden.shape[1] // heads
        normed = F.rms_norm(hidden, hidden.shape[1:], self.norms[0].double(), EPS)
        states = (rounded(normed) @ self.qkv.double().T).view(len(hidden), 3, heads, width)
        query, key = (F.rms_norm(states[:, i], (width,), eps=EPS) for i in (0, 1))
        if rotary is not None:
            turn = [part[None] for part in rotary]
            query, key = (rotate(part[None], *turn)[0] for part in (query, key))
        return torch.stack([query, key, states[:, 2]], 1)


def rounded(values: Tensor) -> Tensor:
    return values.bfloat16().double()


def make_states(rows: int, width: int, heads: int) -> Tensor:
    return torch.zeros(rows, 3, heads, width // heads, dtype=torch.bfloat16)


def run(hidden: Tensor, done: Layer | None, mixed: Tensor | None, coming: Layer | None,
        states: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> None:  # fmt: skip
    packed = [None if layer is None else layer.packed for layer in (done, coming)]
    transform(hidden, packed[0], mixed, packed[1], states, rotary, EPS, EPS)


def test_packed_weights_hold_pairs_of_inputs_of_32_outputs() -> None:
    weight = torch.arange(64 * 96, dtype=torch.float32).view(64, 96).bfloat16()
    packed = pack(weight)
    assert packed.shape == (2, 48, 32, 2)
    for panel, pair, output, half in ((0, 0, 0, 0), (1, 47, 31, 1), (1, 5, 7, 0)):
        assert packed[panel, pair, output, half] == weight[32 * panel + output, 2 * pair + half]


@pytest.mark.parametrize(
    ("hidden", "inner", "heads", "expected"),
    [
        (384, 1536, 12, True),
        (32, 32, 1, True),
        (48, 64, 1, False),
        (64, 48, 1, False),
        (96, 96, 5, False),
        (256, 256, 1, False),
    ],
)
def test_widths_that_fill_the_tiles_fit(
    hidden: int, inner: int, heads: int, expected: bool
) -> None:
    assert fits(hidden, inner, heads) is expected


@needs_tiles
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33, 300, 700])
@pytest.mark.parametrize(
    ("width", "inner", "heads"), [(32, 32, 1), (64, 800, 4), (96, 416, 1), (384, 1536, 12)]
)
@pytest.mark.parametrize("positions", [True, False])
def test_both_halves_are_those_of_float64(
    rows: int, width: int, inner: int, heads: int, positions: bool
) -> None:
    done, coming = Layer(width, inner), Layer(width, inner)
    hidden, mixed = torch.randn(rows, width), torch.randn(rows, width).bfloat16()
    angles = torch.randn(rows, width // heads // 2)
    rotary = (angles.cos(), angles.sin()) if positions else None
    expected = done.second_half(hidden.double(), mixed)
    states = make_states(rows, width, heads)
    run(hidden, done, mixed, coming, states, rotary)
    np.testing.assert_allclose(hidden, expected, atol=0.02)
    assert (hidden - expected).abs().mean() < 1e-3 or not rows
    wanted = coming.first_half(hidden.double(), heads, rotary)
    np.testing.assert_allclose(states.float(), wanted, rtol=2**-7, atol=0.02)


@needs_tiles
def test_each_half_may_come_alone() -> None:
    layer, mixed = Layer(64, 64), torch.randn(40, 64).bfloat16()
    together = torch.randn(40, 64)
    apart = together.clone()
    states, others = make_states(40, 64, 2), make_states(40, 64, 2)
    run(together, layer, mixed, layer, states)
    run(apart, layer, mixed, None, others)
    assert torch.equal(apart, together)
    assert not others.any()
    run(apart, None, None, layer, others)
    assert torch.equal(apart, together)
    assert torch.equal(others, states)


@needs_tiles
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_exact_to_the_last_bits_of_bfloat16(activation: str) -> None:
    layer, eye = Layer(32, 32, activation), Affine(pack(torch.eye(32).bfloat16()))
    scale = torch.full((32,), 2.0)
    weights = layer.packed._replace(up=eye, down=eye, feed_forward_norm=Affine(scale))
    hidden = torch.randn(2000, 32) * torch.cat([torch.ones(31), torch.tensor([30.0])])
    inputs = rounded(F.rms_norm(hidden, (32,), scale, EPS))
    assert inputs.abs().max() > 11
    assert (inputs.abs() < 1e-2).any()
    expected = rounded(FUNCTIONS[activation](inputs))
    after = hidden.clone()
    mixed = torch.zeros(2000, 32, dtype=torch.bfloat16)
    transform(after, weights, mixed, None, make_states(2000, 32, 1), None, EPS, EPS)
    np.testing.assert_allclose(after - hidden, expected, rtol=2**-7, atol=1.5e-4)


@needs_tiles
def test_a_row_has_the_same_bits_alone_and_on_any_number_of_threads() -> None:
    layer, rows = Layer(384, 1536), 700
    hidden, mixed = torch.randn(rows, 384), torch.randn(rows, 384).bfloat16()
    angles = torch.randn(rows, 16)
    rotary = (angles.cos(), angles.sin())
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            own, states = hidden.clone(), make_states(rows, 384, 12)
            run(own, layer, mixed, layer, states, rotary)
            found.append((own, states))
    finally:
        torch.set_num_threads(before)
    for own, states in found[1:]:
        assert torch.equal(own, found[0][0])
        assert torch.equal(states, found[0][1])
    for row in (0, 1, 31, 32, 255, 256, 699):
        one, states = hidden[row : row + 1].clone(), make_states(1, 384, 12)
        turn = (rotary[0][row : row + 1], rotary[1][row : row + 1])
        run(one, layer, mixed[row : row + 1], layer, states, turn)
        assert torch.equal(one[0], found[0][0][row])
        assert torch.equal(states[0], found[0][1][row])


@needs_tiles
def test_a_row_that_is_not_finite_keeps_to_itself() -> None:
    layer = Layer(64, 128)
    hidden, mixed = torch.randn(40, 64), torch.randn(40, 64).bfloat16()
    fine, states = hidden.clone(), make_states(40, 64, 2)
    run(fine, layer, mixed, layer, states)
    mixed[7, 3], hidden[20, 5] = torch.nan, torch.inf
    broken = make_states(40, 64, 2)
    run(hidden, layer, mixed, layer, broken)
    others = [row for row in range(40) if row not in (7, 20)]
    assert torch.equal(hidden[others], fine[others])
    assert torch.equal(broken[others], states[others])
    assert hidden[7].isnan().all()
    assert not hidden[20].isfinite().all()


@needs_tiles
def test_sizes_that_cannot_be_are_refused() -> None:
    layer = Layer(32, 32)
    with pytest.raises(InputError, match="multiples of 32"):
        run(torch.zeros(2, 48), None, None, layer, make_states(2, 48, 1))
    with pytest.raises(InputError, match="head_dim 1 to 128"):
        run(torch.zeros(2, 160), None, None, layer, make_states(2, 160, 1))


@needs_tiles
def test_other_instruction_sets_say_that_they_cannot() -> None:
    before = native.instruction_set()
    try:
        native.use_instruction_set("baseline")
        assert not available()
        with pytest.raises(InputError, match="has no tiles"):
            run(torch.zeros(1, 32), None, None, Layer(32, 32), make_states(1, 32, 1))
    finally:
        native.use_instruction_set(before)
