"""Vectors of documents and chunks by each strategy."""

from __future__ import annotations

import dataclasses

import torch

from benchmarks.quality.chunk_encoders import late_chunks, model_strategies
from osa.model import EmbeddingModel
from tests.unit.benchmarks.quality.conftest import page


def test_late_chunks_add_up_to_the_document(model: EmbeddingModel) -> None:
    chunks = list(page(3).paragraphs)
    whole, vectors = late_chunks(model, chunks)
    expected = model.encode([" ".join(chunks)])[0]
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-4)
    assert vectors.shape == (len(chunks), model.config.output_size)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(chunks)))
    first, _ = late_chunks(model, chunks[:1])
    assert not torch.allclose(vectors[0], first, atol=1e-3), "a late chunk saw its document"


def test_documents_longer_than_the_model_are_read_in_windows(model: EmbeddingModel) -> None:
    chunks = list(page(3).paragraphs)
    narrow = EmbeddingModel(dataclasses.replace(model.config, max_seq_len=200), model.tokenizer)
    narrow.load_state_dict(model.state_dict())
    whole, vectors = late_chunks(narrow, chunks)
    assert len(vectors) == len(chunks)
    first, _ = late_chunks(model, chunks[:2])
    assert not torch.allclose(whole, first, atol=1e-3), "the other windows count too"


def test_strategies_of_a_model(model: EmbeddingModel) -> None:
    strategies = list(model_strategies(model, [list(page(1).paragraphs), list(page(2).paragraphs)]))
    shapes = [None if one.chunks is None else len(one.chunks) for one in strategies]
    assert shapes == [None, 16, 16]
