"""Losses, the rotation of targets, and evaluation scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from osa.model.errors import ConfigError
from osa.model.layers.bottleneck import reduce_rank
from osa.model.training.evaluation import (
    agreement,
    mean_reciprocal_rank,
    rankings,
    retrieval_scores,
)
from osa.model.training.objectives.contrastive import contrastive_loss
from osa.model.training.objectives.distillation import distillation_loss, principal_rotation


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def test_a_perfect_student_has_no_loss() -> None:
    teacher = unit(8, 6)
    loss, cosine = distillation_loss(teacher, teacher, 10.0, [6])
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert cosine.item() == pytest.approx(0.0, abs=1e-6)


def test_shorter_widths_are_held_to_the_full_similarities() -> None:
    teacher = unit(8, 6)
    full, _ = distillation_loss(teacher, teacher, 10.0, [6])
    short, _ = distillation_loss(teacher, teacher, 10.0, [6, 2])
    assert short > full + 0.01


def test_a_student_in_other_directions_is_compared_in_those() -> None:
    teacher = unit(8, 6)
    coordinates, basis = reduce_rank(teacher, 6)
    loss, cosine = distillation_loss(F.normalize(coordinates, dim=-1), teacher, 10.0, [6], basis)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    coordinates, basis = reduce_rank(teacher, 2)
    _, fewer = distillation_loss(F.normalize(coordinates, dim=-1), teacher, 10.0, [2], basis)
    expected = 1 - (F.normalize(coordinates @ basis.T, dim=-1) * teacher).sum(-1).mean()
    assert fewer.item() == pytest.approx(expected.item(), abs=1e-5)
    assert fewer > cosine + 0.01


def test_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives 4 dimensions, the teacher 6"):
        distillation_loss(unit(2, 4), unit(2, 6), 1.0, [4])


def test_rotation_puts_most_into_the_leading_dimensions() -> None:
    spread = torch.tensor([0.1, 3.0, 0.5, 1.0])
    hidden = (torch.randn(500, 4) * spread) @ torch.linalg.qr(torch.randn(4, 4)).Q
    rotation = principal_rotation(hidden.numpy())
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(4), atol=1e-5, rtol=0)
    energy = (hidden @ rotation).square().mean(0)
    assert energy.tolist() == sorted(energy.tolist(), reverse=True)


def test_the_contrastive_loss_is_the_cross_entropy_of_similarities() -> None:
    anchors, candidates = unit(3, 5), unit(5, 5)
    none = torch.zeros(3, 5, dtype=torch.bool)
    similarity = (anchors @ candidates.T / 0.1).double()
    by_hand = -(similarity.diagonal() - similarity.exp().sum(1).log()).mean()
    assert contrastive_loss(anchors, candidates, none, 0.1).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_an_excluded_candidate_is_no_negative() -> None:
    anchors, candidates = unit(3, 5), unit(4, 5)
    none = torch.zeros(3, 4, dtype=torch.bool)
    excluded = none.clone()
    excluded[:, 3] = True
    without = contrastive_loss(anchors, candidates[:3], none[:, :3], 0.1)
    torch.testing.assert_close(contrastive_loss(anchors, candidates, excluded, 0.1), without)
    assert contrastive_loss(anchors, candidates, none, 0.1) > without


def test_retrieval_scores_count_ranks() -> None:
    passages = F.normalize(torch.eye(12) + 0.01, dim=-1)
    assert set(retrieval_scores(passages, passages).values()) == {1.0}
    queries = passages.clone()
    queries[0] = F.normalize(passages[1] + 0.5 * passages[0], dim=-1)  # rank 2
    queries[2] = -passages[2]  # last
    scores = retrieval_scores(queries, passages)
    assert scores["recall_at_1"] == pytest.approx(10 / 12)
    assert scores["recall_at_10"] == pytest.approx(11 / 12)
    assert scores["mrr_at_10"] == pytest.approx((10 + 0.5) / 12)


def test_agreement_of_equal_and_of_shuffled_vectors() -> None:
    vectors = unit(50, 8)
    assert agreement(vectors, vectors)["retrieval"] == 1.0
    assert agreement(vectors, vectors)["cosine"] == pytest.approx(1.0)
    assert agreement(vectors, vectors.roll(1, 0))["retrieval"] == 0.0


def test_only_queries_with_both_kinds_of_rows_are_ranked() -> None:
    relevant = torch.tensor([True, False, True, True, False])
    assert rankings(["a", "a", "b", "b", "c"], relevant) == [[0, 1]]
    assert rankings(["a", "b", "a", "b", "c"], ~relevant) == [[1, 3]]


def test_the_mean_reciprocal_rank_takes_the_best_relevant_row_and_counts_ties_against_it() -> None:
    relevant = torch.tensor([True, False, True, False, False, True, False])
    scores = torch.tensor([0.1, 0.5, 0.9, 0.7, 0.8, 0.7, 0.7])
    assert mean_reciprocal_rank([[0, 1, 2]], scores, relevant) == 1.0
    assert mean_reciprocal_rank([[0, 1], [3, 4, 5]], scores, relevant) == pytest.approx(
        (1 / 2 + 1 / 3) / 2
    )
    assert mean_reciprocal_rank([[5, 6]], scores, relevant) == 0.5
