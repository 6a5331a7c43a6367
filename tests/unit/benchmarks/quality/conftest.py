"""Pages of random words, and the packaged model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.quality.long_documents import Page
from osa.model import EmbeddingModel

TEXT = """river stone cloud engine paper market window garden winter letter music bridge the a of
and in with under over near before after some every old new small"""
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel.from_pretrained()


def count(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def page(seed: int, paragraphs: int = 8) -> Page:
    generator = torch.Generator().manual_seed(seed)

    def sentence() -> str:
        picks = torch.randint(len(WORDS), (12,), generator=generator).tolist()
        return " ".join(WORDS[pick] for pick in picks).capitalize() + "."

    texts = (" ".join(sentence() for _ in range(6)) for _ in range(paragraphs))
    return Page("s", tuple(texts))
