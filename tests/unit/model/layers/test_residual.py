"""Residual rules: their equations token by token, gradients, and the start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.diagnostics import jacobian_condition, token_jacobian
from osa.model.layers.encoder import Encoder
from osa.model.layers.residual import CHANNELS, ChannelRead, Delta

WIDTH = 6


def random_rule(channels: int, erases: bool) -> Delta:
    rule = Delta(WIDTH, channels, erases).double()
    for parameter in rule.parameters():
        torch.nn.init.normal_(parameter)
    return rule


def inputs(channels: int) -> list[Tensor]:
    sizes = (channels * WIDTH, WIDTH, WIDTH)
    return [torch.randn(2, 3, size, dtype=torch.float64, requires_grad=True) for size in sizes]


@pytest.mark.parametrize(("channels", "erases"), [(1, True), (1, False), (CHANNELS, True)])
def test_a_rule_is_its_equation(channels: int, erases: bool) -> None:
    rule, (state, update, seen) = random_rule(channels, erases), inputs(channels)
    found = rule(state, update, seen)
    for place in [(0, 0), (1, 2)]:
        x = state[place].view(channels, WIDTH).T  # [D, V]
        k = (update[place] / update[place].norm())[:, None]
        beta = 2 / (1 + math.exp(-float((rule.gate @ seen[place] + rule.gate_bias).detach())))
        v = rule.value.view(channels, WIDTH) @ seen[place]
        transition = torch.eye(WIDTH).double() - (beta * k @ k.T if erases else 0)
        expected = transition @ x + beta * k @ v[None]
        torch.testing.assert_close(found[place].view(channels, WIDTH).T, expected)


@pytest.mark.parametrize(("channels", "erases"), [(1, True), (1, False), (CHANNELS, True)])
def test_gradients_of_a_rule(channels: int, erases: bool) -> None:
    rule = random_rule(channels, erases)
    assert torch.autograd.gradcheck(rule, inputs(channels))


def test_a_reflection_keeps_lengths_and_a_sub_layer_of_zeros_changes_nothing() -> None:
    rule, (state, update, seen) = random_rule(1, True), inputs(1)
    with torch.no_grad():
        rule.value.zero_()
        rule.gate_bias.fill_(40.0)  # beta = 2
        rule.gate.zero_()
        torch.testing.assert_close(rule(state, update, seen).norm(dim=-1), state.norm(dim=-1))
        torch.testing.assert_close(rule(state, 0 * update, seen), state)


def test_channels_are_read_as_a_weighted_sum() -> None:
    read, state = ChannelRead(WIDTH, CHANNELS).double(), torch.randn(3, CHANNELS * WIDTH).double()
    torch.testing.assert_close(read(state), state.view(3, CHANNELS, WIDTH).mean(1))
    torch.nn.init.normal_(read.weight)
    weights = read.weight.view(CHANNELS, WIDTH)
    expected = torch.einsum("tvd,vd->td", state.view(3, CHANNELS, WIDTH), weights)
    torch.testing.assert_close(read(state), expected)


def encoder(**changes: object) -> Encoder:
    values = {
        "feature_size": 16, "hidden_size": 16, "num_layers": 3, "num_heads": 2, "ffn_size": 32,
        **changes,
    }  # fmt: skip
    return Encoder(EncoderConfig.from_dict(values), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("residual", "most"), [("add", 2000), ("delta", 200), ("delta4", 200), ("write_only", 3)]
)
def test_no_direction_is_lost_at_the_start(residual: str, most: float) -> None:
    """Beta is below 1 then; at 1 each sub-layer would project out a direction of every token."""
    features = torch.randn(1, 6, 16)
    rule = encoder(residual=residual)
    condition = jacobian_condition(rule, features)
    assert condition < most
    if residual == "delta":
        for part in rule.modules():
            if isinstance(part, Delta):
                part.gate_bias.data.zero_()
        assert jacobian_condition(rule, features) > 100 * condition


def test_the_jacobian_of_channels_is_that_of_all_of_them() -> None:
    assert token_jacobian(encoder(residual="delta4"), torch.randn(1, 2, 16)).shape == (128, 128)
