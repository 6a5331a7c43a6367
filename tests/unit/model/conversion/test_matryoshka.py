"""Turned vectors: cosines stay, leading numbers say most, the same model serves them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from osa.model import EmbeddingModel
from osa.model.conversion.matryoshka import check_turnable, turn_vectors
from osa.model.conversion.report import measure_widths
from osa.model.conversion.student import make_student
from osa.model.errors import ConfigError
from tests.transformer_models import make
from tests.unit.model.conversion.conftest import texts


@pytest.fixture
def student(teacher: EmbeddingModel) -> EmbeddingModel:
    return make_student(teacher, (0, 2)).requires_grad_(False).eval()


def test_cosines_stay_and_leading_numbers_say_most(student: EmbeddingModel, tmp_path: Path) -> None:
    found = student.encode(texts(40))
    width = found.shape[1]
    dimensions = (width, width // 2, width // 4)
    turned, given = turn_vectors(student, found.numpy(), dimensions)
    vectors = turned.encode(texts(40))
    torch.testing.assert_close(torch.from_numpy(given), vectors, atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors @ vectors.T, found @ found.T, atol=1e-5, rtol=0)
    shares = vectors.square().mean(0)
    assert bool((shares[:-1] >= shares[1:] - 1e-6).all())  # of all numbers, in their order
    turned.save_pretrained(tmp_path / "turned", torch.float32)
    loaded = EmbeddingModel.from_pretrained(tmp_path / "turned")
    assert loaded.config.matryoshka_dims == dimensions
    torch.testing.assert_close(loaded.encode(texts(3)), vectors[:3], atol=1e-6, rtol=0)


def test_a_projection_with_a_bias_is_turned(student: EmbeddingModel) -> None:
    config = dataclasses.replace(student.config, embedding_size=8, embedding_bias=True)
    projected = EmbeddingModel(config, student.tokenizer).requires_grad_(False).eval()
    assert projected.projection is not None
    projected.projection.bias.copy_(torch.linspace(-1.0, 1.0, 8))
    found = projected.encode(texts(40))
    turned, _ = turn_vectors(projected, found.numpy(), (8, 4))
    vectors = turned.encode(texts(40))
    torch.testing.assert_close(vectors @ vectors.T, found @ found.T, atol=1e-5, rtol=0)
    assert F.cosine_similarity(vectors, found).mean() < 0.9


def test_a_share_of_the_length_and_a_score_for_each_width(
    student: EmbeddingModel, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    some = texts(12)
    pairs.write_text("\n".join(f"{k % 6}\t{some[k]}\t{some[-1 - k]}" for k in range(12)))
    width = student.config.vector_size
    turned, _ = turn_vectors(student, student.encode(some).numpy(), (width, 4))
    assert turned.tokenizer is not None
    pieces = [item.ids for item in turned.tokenizer.encode(some, 64)]
    found = measure_widths(turned, pieces, [pairs], (width, 4))
    assert found[str(width)]["share"] == 1.0
    assert 0.3 < found["4"]["share"] < 1.0
    assert all(-100.0 <= values["sts"] <= 100.0 for values in found.values())


@pytest.mark.parametrize("dimensions", [(16,), (1, 32), (32, 0)])
def test_dimensions_descend_from_the_full_width(
    teacher: EmbeddingModel, dimensions: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match="matryoshka_dims must"):
        check_turnable(teacher, dimensions)


def test_a_non_linearity_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    plain = EmbeddingModel.from_pretrained(tmp_path / "bert")
    config = dataclasses.replace(plain.config, embedding_dense=True, embedding_activation="tanh")
    model = EmbeddingModel(config, plain.tokenizer)
    with pytest.raises(ConfigError, match="come out of tanh"):
        check_turnable(model, (model.config.vector_size, 4))
