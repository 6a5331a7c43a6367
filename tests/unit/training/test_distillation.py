"""The objective, the rotation and the batches of distillation."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from osa.model.errors import ConfigError
from osa.model.training.corpus import batch_rows
from osa.model.training.distillation import distillation_loss, principal_rotation
from osa.model.training.evaluation import agreement, spearman


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


@given(size=st.integers(2, 40), batch=st.integers(1, 40), seed=st.integers(0, 9))
def test_an_epoch_meets_every_row_at_most_once(size: int, batch: int, seed: int) -> None:
    steps = size // min(batch, size)
    rows = np.concatenate([batch_rows(step, batch, size, seed) for step in range(steps)])
    assert len(set(rows.tolist())) == len(rows) == steps * min(batch, size)
    assert set(rows.tolist()) <= set(range(size))


def test_batches_are_a_function_of_step_and_seed() -> None:
    assert np.array_equal(batch_rows(7, 4, 100, 1), batch_rows(7, 4, 100, 1))
    assert not np.array_equal(batch_rows(7, 4, 100, 1), batch_rows(7, 4, 100, 2))
    assert not np.array_equal(batch_rows(0, 4, 100, 1), batch_rows(25, 4, 100, 1))


def test_spearman_is_scipys() -> None:
    stats = importlib.import_module("scipy.stats")
    left, right = np.random.default_rng(0).integers(0, 9, (2, 200))
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)


def test_agreement_of_equal_and_of_shuffled_vectors() -> None:
    vectors = unit(50, 8)
    assert agreement(vectors, vectors).retrieval == 1.0
    assert agreement(vectors, vectors).cosine == pytest.approx(1.0)
    assert agreement(vectors, vectors.roll(1, 0)).retrieval == 0.0
