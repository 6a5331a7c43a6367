"""Monarch matrices: their definition, orthogonal starts, the nearest one to a dense matrix."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.block import FeedForward
from osa.model.layers.encoder import Encoder
from osa.model.layers.initialization import initialize_monarch
from osa.model.layers.mixers import OsaMixer
from osa.model.layers.monarch import MonarchLinear, as_dense, block_width

SIZES = [(12, 12, 3, 1), (12, 24, 3, 2), (24, 12, 4, 1), (16, 16, 4, 1)]


def random_layer(inputs: int, outputs: int, block: int, parts: int) -> MonarchLinear:
    layer = MonarchLinear(inputs, outputs, True, block, parts).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("sizes", SIZES)
def test_a_layer_is_its_definition(sizes: tuple[int, int, int, int]) -> None:
    inputs, outputs, q, parts = sizes
    layer, p, m = random_layer(*sizes), inputs // q, outputs // parts // q
    row = torch.randn(inputs, dtype=torch.float64)
    found = []
    for part in range(parts):
        x, y = row.view(p, q), torch.zeros(m, q, dtype=torch.float64)
        own = slice(part * q, (part + 1) * q)
        h = torch.stack([layer.right[a, :, own].T @ x[a] for a in range(p)])
        for j in range(q):
            y[:, j] = layer.left[part * q + j].T @ h[:, j]
        found.append(y.flatten())
    assert layer.bias is not None
    torch.testing.assert_close(layer(row[None])[0], torch.cat(found) + layer.bias)
    torch.testing.assert_close(layer.dense()(row), torch.cat(found) + layer.bias)
    assert sum(w.numel() for w in (layer.right, layer.left)) == parts * (inputs * q + inputs * m)


def test_gradients_of_a_layer() -> None:
    layer = random_layer(12, 12, 3, 1)
    rows = torch.randn(2, 2, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda rows, right, left: torch.func.functional_call(
            layer, {"right": right, "left": left}, (rows,)
        ),
        (rows, layer.right, layer.left),
    )


@pytest.mark.parametrize("sizes", [(16, 16, 4, 1), (384, 384, 16, 3), (384, 1536, 24, 1)])
@torch.no_grad()
def test_a_row_has_the_same_bits_in_any_batch(sizes: tuple[int, int, int, int]) -> None:
    layer = random_layer(*sizes).float()
    rows = torch.randn(131, sizes[0])
    together = layer(rows)
    for count in (1, 2, 3, 5, 24, 25, 26, 64, 130):
        assert torch.equal(layer(rows[:count]), together[:count]), count
    assert layer(rows[:0]).shape == (0, sizes[1])


@pytest.mark.parametrize("sizes", [(12, 24, 3, 1), (24, 12, 4, 1), (16, 16, 4, 1)])
def test_orthogonal_blocks_make_an_orthogonal_map(sizes: tuple[int, int, int, int]) -> None:
    layer = MonarchLinear(sizes[0], sizes[1], False, *sizes[2:])
    initialize_monarch(layer)
    values = torch.linalg.svdvals(layer.dense().weight)
    torch.testing.assert_close(values, torch.ones_like(values))


def test_a_monarch_matrix_is_its_own_nearest_one() -> None:
    layer = random_layer(12, 24, 3, 2)
    other = MonarchLinear(12, 24, True, 3, 2).double()
    other.project(layer.dense())
    torch.testing.assert_close(other.dense().weight, layer.dense().weight)
    torch.testing.assert_close(other.bias, layer.bias)


def test_no_step_away_from_the_nearest_one_is_nearer() -> None:
    dense, layer = nn.Linear(12, 12).double(), MonarchLinear(12, 12, True, 3).double()
    layer.project(dense)

    def distance() -> float:
        return float((layer.dense().weight - dense.weight).detach().norm())

    best = distance()
    assert best < float(dense.weight.detach().norm())
    for weight, size in itertools.product((layer.right, layer.left), (1e-2, 1e-4)):
        before = weight.detach().clone()
        for _ in range(10):
            weight.data = before + size * torch.randn_like(before)
            assert distance() > best
        weight.data = before


def skipless(**changes: object) -> Encoder:
    values = {
        "feature_size": 16, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "ffn_size": 64,
        "residual": "none", "norm": False, "linear": "monarch", **changes,
    }  # fmt: skip
    return Encoder(EncoderConfig.from_dict(values), torch.Generator().manual_seed(0)).double()


def test_queries_and_keys_of_a_head_start_orthonormal_together() -> None:
    (mixer,) = (part for part in skipless().modules() if isinstance(part, OsaMixer))
    query, key, value = as_dense(mixer.qkv).weight.split(16)
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        joint = torch.cat([query[rows], key[rows]])
        torch.testing.assert_close(joint @ joint.T, torch.eye(16).double(), atol=1e-6, rtol=0)
    for square in (value, as_dense(mixer.out).weight):
        torch.testing.assert_close(square @ square.T, torch.eye(16).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_a_mirrored_feed_forward_is_an_isometry(activation: str) -> None:
    encoder = skipless(activation=activation)
    (layer,) = (part for part in encoder.modules() if isinstance(part, FeedForward))
    hidden = torch.randn(9, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(hidden).norm(dim=-1), hidden.norm(dim=-1), rtol=1e-5, atol=0)


def test_blocks_are_of_the_fewest_parameters_within_a_head() -> None:
    assert block_width(384, 384, 32) == 16
    assert block_width(384, 1536, 768) == block_width(1536, 384, 768) == 24
    with pytest.raises(ConfigError, match=r"15 inputs and 8 outputs .* multiples of 8"):
        block_width(15, 8)
