"""Rank reduction: truncated singular value decomposition, gradients, and the basis over batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from osa.model.errors import ConfigError
from osa.model.layers.bottleneck import RankReduction, reduce_rank
from tests.conftest import make_tiny_model

SHAPES = [(7, 5), (5, 9), (6, 6)]


def vectors(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_truncated_decomposition(shape: tuple[int, int]) -> None:
    batch = vectors(*shape)
    coordinates, basis = reduce_rank(batch, 3)
    left, values, right = torch.linalg.svd(batch, full_matrices=False)
    torch.testing.assert_close(coordinates @ basis.T, (left[:, :3] * values[:3]) @ right[:3])
    torch.testing.assert_close(basis.T @ basis, torch.eye(3).double())
    torch.testing.assert_close(coordinates.norm(dim=0), values[:3])


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_what_has_no_signs(shape: tuple[int, int]) -> None:
    def products(batch: Tensor) -> tuple[Tensor, ...]:
        coordinates, basis = reduce_rank(batch, 3)
        first = coordinates[:, :1]
        return coordinates @ coordinates.T, coordinates @ basis.T, first @ first.T

    assert torch.autograd.gradcheck(products, vectors(*shape).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_singular_values_and_missing_ranks_give_finite_gradients(dtype: torch.dtype) -> None:
    for batch in (torch.eye(8), torch.ones(8, 8), torch.zeros(8, 8), torch.eye(8)[:, :6]):
        leaf = batch.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            coordinates, basis = reduce_rank(leaf, 4)
            assert coordinates.dtype == basis.dtype == torch.float32
            (coordinates @ basis.T).square().sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bottleneck_size 4 takes batches .* got 3"):
        reduce_rank(vectors(3, 9), 4)


def test_the_basis_follows_the_batches() -> None:
    """Batches of a fixed low rank: its directions are found, those of most variance first."""
    axes = torch.linalg.qr(torch.randn(12, 3)).Q
    bottleneck = RankReduction(12, 3)
    for _ in range(30):
        bottleneck.reduce(torch.randn(40, 3) * torch.tensor([3.0, 1.0, 0.3]) @ axes.T)
    torch.testing.assert_close(bottleneck.basis @ bottleneck.basis.T, torch.eye(3))
    overlap = (bottleneck.basis @ axes).abs()
    torch.testing.assert_close(overlap, torch.eye(3), atol=0.1, rtol=0)
    batch = torch.randn(5, 3) @ axes.T
    torch.testing.assert_close(bottleneck(batch) @ bottleneck(batch).T, batch @ batch.T)
    assert bool((bottleneck.spread.diff() < 0).all())


def test_a_batch_that_is_not_finite_leaves_the_basis_alone() -> None:
    bottleneck = RankReduction(6, 2)
    bottleneck.reduce(torch.randn(9, 6))
    before = bottleneck.basis.clone()
    broken = torch.randn(9, 6)
    broken[3, 2] = torch.nan
    assert not bottleneck.reduce(broken).coordinates.isfinite().all()
    assert torch.equal(bottleneck.basis, before)


@torch.no_grad()
def test_vectors_are_the_projected_ones_in_its_directions() -> None:
    reduced = make_tiny_model(
        bottleneck="rank_reduction", bottleneck_size=5, matryoshka_dims=(5, 3), embedding_size=12
    )
    assert reduced.bottleneck is not None
    reduced.bottleneck.reduce(torch.randn(40, 12))
    ids = [[1, 2, 3], [4, 5, 6, 7]]
    packed, offsets = reduced.pack_ids(ids)
    output, tokens = reduced.embed_tokens(packed, cu_seqlens=offsets)
    assert output.embeddings.shape == (2, 5)
    assert tokens.shape == (1, 7, 5)
    whole = make_tiny_model(embedding_size=12, matryoshka_dims=()).embed_ids(ids)
    expected = whole.embeddings * whole.norms[:, None] @ reduced.bottleneck.basis.T
    torch.testing.assert_close(output.embeddings * output.norms[:, None], expected)
    torch.testing.assert_close(tokens[0, :3].mean(0), expected[0])
