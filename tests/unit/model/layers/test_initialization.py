"""Initial weights: isometries where the paper's scheme has them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from osa.model.config import Activation, EncoderConfig
from osa.model.layers.block import FeedForward
from osa.model.layers.encoder import Encoder
from osa.model.layers.initialization import orthonormal
from osa.model.layers.mixers import OsaMixer


def skipless(depth: int = 1, **changes: object) -> Encoder:
    values = {
        "feature_size": 16, "hidden_size": 16, "num_layers": depth, "num_heads": 2,
        "ffn_size": 32, "residual": False, "norm": False, "qk_norm": False, "center": True,
        "alpha_init": 1.0, **changes,
    }  # fmt: skip
    return Encoder(EncoderConfig.from_dict(values), torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (4, 4)])
def test_orthonormal_rows_or_columns(rows: int, columns: int) -> None:
    matrix = orthonormal(rows, columns).double()
    product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    torch.testing.assert_close(product, torch.eye(min(rows, columns)).double(), atol=1e-6, rtol=0)


def test_queries_and_keys_of_a_head_are_orthonormal_together() -> None:
    (mixer,) = (part for part in skipless().modules() if isinstance(part, OsaMixer))
    query, key, value = mixer.qkv.weight.split(16)
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        joint = torch.cat([query[rows], key[rows]])
        torch.testing.assert_close(joint @ joint.T, torch.eye(16).double(), atol=1e-6, rtol=0)
    for square in (value, mixer.out.weight):
        torch.testing.assert_close(square @ square.T, torch.eye(16).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_a_mirrored_feed_forward_is_an_isometry(activation: Activation) -> None:
    encoder = skipless(activation=activation)
    (layer,) = (part for part in encoder.modules() if isinstance(part, FeedForward))
    hidden = torch.randn(9, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(hidden).norm(dim=-1), hidden.norm(dim=-1), rtol=1e-5, atol=0)


def condition_number(encoder: Encoder, features: Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda x: encoder(x), features)
    size = features.numel()
    return float(torch.linalg.cond(jacobian.reshape(size, size)))


def test_a_skipless_stack_starts_well_conditioned_at_depth() -> None:
    """Correlated tokens, 8 layers, no skips, no norms: softmax is beyond 1e6 here."""
    features = torch.randn(1, 6, 16, dtype=torch.float64) + 2 * torch.randn(1, 1, 16).double()
    features = features / features.square().mean().sqrt()
    assert condition_number(skipless(8), features) < 20
    assert condition_number(skipless(8, mixer="softmax"), features) > 1e6


def test_the_start_is_a_function_of_the_generator() -> None:
    first, second = skipless().state_dict(), skipless().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
