"""Tiny data, tokenizer and model for the objectives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig
from osa.model.records.fields import Field
from osa.model.tokenization import TextTokenizer
from osa.model.training.data.report import Rules
from osa.model.training.data.store import ExampleStore

Build = Callable[..., ExampleStore]


@pytest.fixture
def store(tmp_path: Path) -> Build:
    """Make a store of records with some fields."""

    def build(records: list[dict[str, Any]], fields: tuple[Field, ...]) -> ExampleStore:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return ExampleStore.build([file], fields, tmp_path / "cache", Rules(), progress=False)

    return build


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    """The packaged model's tokenizer."""
    found = EmbeddingModel.from_pretrained().tokenizer
    assert found is not None
    return found


@pytest.fixture
def student(tokenizer: TextTokenizer) -> EmbeddingModel:
    """A small untrained text model, in float64 so that rounding hides no error."""
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        ffn_size=32,
        matryoshka_dims=(16, 8),
        alpha_init=0.3,
    )
    model = EmbeddingModel(config, tokenizer, torch.Generator().manual_seed(0))
    return model.double()
