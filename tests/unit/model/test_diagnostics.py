"""Diagnostics on encoders with known results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from osa.model import ops
from osa.model.config import EncoderConfig
from osa.model.diagnostics import (
    MAX_COLUMNS,
    gradient_norms,
    jacobian_condition,
    jacobian_spectrum,
    rank_and_norm,
    token_jacobian,
    watch_layers,
)
from osa.model.errors import InputError
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers import TokenContext


def make_encoder(depth: int = 2, **changes: object) -> Encoder:
    values = {
        "feature_size": 5, "hidden_size": 16, "num_layers": depth, "num_heads": 2,
        "ffn_size": 32, "residual": False, "norm": False, "qk_norm": False,
        "positions": "learned", "max_seq_len": 512, **changes,
    }  # fmt: skip
    return Encoder(EncoderConfig.from_dict(values), torch.Generator().manual_seed(0))


class LinearMap(nn.Module):
    """A block that multiplies every token by a known matrix [D, D]."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, hidden: Tensor, context: TokenContext) -> Tensor:
        return hidden @ self.matrix


def features(tokens: int = 6) -> Tensor:
    return torch.randn(1, tokens, 5)


def test_a_linear_map_has_its_own_singular_values() -> None:
    encoder = make_encoder(2)
    values = torch.linspace(4.0, 0.5, 16)
    encoder.blocks[0] = LinearMap(torch.diag(values))
    encoder.blocks[1] = LinearMap(3.0 * torch.eye(16).flip(0))
    expected = (3.0 * values.double()).repeat_interleave(6)
    torch.testing.assert_close(jacobian_spectrum(encoder, features()), expected)
    assert jacobian_condition(encoder, features(), block=0) == pytest.approx(8.0)
    assert jacobian_condition(encoder, features(), block=1) == pytest.approx(1.0)


def test_a_singular_map_has_no_finite_condition() -> None:
    encoder = make_encoder(1)
    encoder.blocks[0] = LinearMap(torch.zeros(16, 16))
    assert jacobian_condition(encoder, features()) == float("inf")


class FrozenRotation(nn.Module):
    """OSA with constant queries and keys, two heads of width 8."""

    def __init__(self, tokens: int, scale: str) -> None:
        super().__init__()
        self.query_key = nn.Parameter(torch.randn(2, 1, 2, tokens, 8))
        self.scale = scale

    def forward(self, hidden: Tensor, context: TokenContext) -> Tensor:
        batch = len(hidden)
        query, key = self.query_key.expand(2, batch, -1, -1, -1).unbind()
        value = hidden.view(batch, -1, 2, 8).transpose(1, 2)
        alpha = torch.full((2,), 3.0, dtype=hidden.dtype)
        mixed: Tensor = ops.attention(query, key, value, alpha, None, None, self.scale, False)
        return mixed.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("scale", ["paper", "length"])
@pytest.mark.parametrize("tokens", [6, 40])
def test_osa_of_frozen_queries_and_keys_is_orthogonal(scale: str, tokens: int) -> None:
    encoder = make_encoder(1)
    encoder.blocks[0] = FrozenRotation(tokens, scale)
    jacobian = token_jacobian(encoder, features(tokens))
    assert jacobian_condition(encoder, features(tokens)) == pytest.approx(1.0, abs=1e-6)
    assert float((jacobian - torch.eye(16 * tokens)).abs().max()) > 0.1, "it does mix"


def test_a_skipless_block_at_a_zero_angle_is_an_isometry() -> None:
    assert jacobian_condition(make_encoder(1, alpha_init=0.0), features()) == pytest.approx(
        1.0, abs=1e-6
    )


def test_the_matrix_is_the_derivative() -> None:
    encoder = make_encoder(2, residual=True, norm=True, alpha_init=0.5).double()
    inputs = features(40).double()  # beyond one chunk of rows
    jacobian = token_jacobian(encoder, inputs)
    entering: list[Tensor] = []
    with encoder.blocks[0].register_forward_pre_hook(lambda _, given: entering.append(given[0])):
        encoder(inputs)
    start = entering[0].detach()

    def stack(hidden: Tensor) -> Tensor:
        context = TokenContext(None, None, None)
        result: Tensor = encoder.blocks[1](encoder.blocks[0](hidden, context), context)
        return result.detach()

    direction, size = torch.randn_like(start), 1e-6
    numeric = (stack(start + size * direction) - stack(start - size * direction)) / (2 * size)
    torch.testing.assert_close(
        (jacobian @ direction.flatten()).view_as(start), numeric, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mixer", ["osa", "softmax"])
def test_blocks_multiply_to_the_stack_and_the_encoder_is_left_alone(mixer: str) -> None:
    encoder = make_encoder(
        2, mixer=mixer, vocab_size=7, feature_size=None, positions="rotary", alpha_init=0.3
    )
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    first, second = (token_jacobian(encoder, ids, block) for block in (0, 1))
    torch.testing.assert_close(second @ first, token_jacobian(encoder, ids))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in encoder.parameters())


@pytest.mark.parametrize(
    ("shape", "block", "message"),
    [
        ((2, 3, 5), None, r"one sequence .* got \(2, 3, 5\)"),
        ((1, 0, 5), None, "one sequence"),
        ((1, MAX_COLUMNS // 16 + 1, 5), None, f"2064 columns, allowed are up to {MAX_COLUMNS}"),
        ((1, 3, 5), 2, "block must be 0 to 1, got 2"),
        ((1, 3, 5), -1, "block must be 0 to 1"),
    ],
)
def test_what_has_no_jacobian_is_refused(
    shape: tuple[int, ...], block: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        token_jacobian(make_encoder(2), torch.randn(shape), block)


def test_gradients_are_counted_by_block() -> None:
    encoder = make_encoder(3)
    with pytest.raises(InputError, match="block 0 has no gradient"):
        gradient_norms(encoder)
    encoder(features()).square().sum().backward()
    norms = gradient_norms(encoder)
    flat = [part.grad.flatten() for part in encoder.blocks[1].parameters() if part.grad is not None]
    assert len(norms) == 3
    assert norms[1] == pytest.approx(float(torch.cat(flat).norm()), rel=1e-5)


def test_rank_of_orthogonal_equal_and_zero_tokens() -> None:
    apart = rank_and_norm(2.0 * torch.eye(4, 8)[None])
    assert apart == pytest.approx((4.0, 0.0, 2.0))
    together = rank_and_norm(torch.ones(3, 4, 9))
    assert together == pytest.approx((1.0, 1.0, 3.0))
    assert rank_and_norm(torch.zeros(1, 4, 9)).token_norm == 0.0
    for shape in ((4, 9), (1, 1, 9), (0, 4, 9)):
        with pytest.raises(InputError, match="N from 2 on"):
            rank_and_norm(torch.ones(shape))


def test_softmax_collapses_tokens_at_depth_and_rotations_do_not() -> None:
    inputs = torch.randn(2, 12, 5)
    last = {}
    for mixer in ("osa", "softmax"):
        encoder = make_encoder(8, mixer=mixer)
        with watch_layers(encoder) as layers:
            encoder(inputs)
        assert len(layers) == 9
        last[mixer] = layers[-1]
        encoder(inputs)
        assert len(layers) == 9, "the hooks are gone"
    assert last["softmax"].effective_rank < 1.1
    assert last["softmax"].token_cosine > 0.99
    assert last["osa"].effective_rank > 6
    assert last["osa"].token_cosine < 0.5
