"""A small softmax encoder of transformers as a teacher, and texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from tests.transformer_models import make

WORDS = "the old bird sings while a quiet river turns under seven bright stars and no one hears"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bert")
    make(directory, "bert", num_hidden_layers=3)
    return directory


@pytest.fixture
def teacher(bert: Path) -> EmbeddingModel:
    return EmbeddingModel.from_pretrained(bert)


def sentences(count: int) -> list[str]:
    words = WORDS.split()
    return [
        " ".join(words[(k * 7 + n) % len(words)] for n in range(3 + k % 9)) for k in range(count)
    ]


def texts(count: int) -> list[str]:
    """Texts of one to thirty sentences."""
    return [" ".join(f"{part.capitalize()}." for part in sentences(1 + 7 * k % 30)) + f" {k}"
            for k in range(count)]  # fmt: skip
