"""A checkpoint inside sentence-transformers gives the vectors of ``/embed``, and can be trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from osa.model import EmbeddingModel, InputError
from tests.conftest import make_tiny_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    from sentence_transformers import SentenceTransformer

    from osa.model.sentence_encoder import OsaEncoder

TEXTS = [
    "A man is playing a guitar.",
    "Someone plays an acoustic guitar.",
    "",
    "word " * 700,
]


def test_vectors_are_those_of_embed(serve: Callable[..., httpx.Client]) -> None:
    client = serve(model__dtype="float32")
    model = SentenceTransformer(modules=[OsaEncoder()], device="cpu")
    texts = [TEXTS[0], TEXTS[1], TEXTS[3]]
    served = client.post("/embed", json={"inputs": texts}).json()
    np.testing.assert_allclose(model.encode(texts), served, atol=5e-6)
    assert model.get_embedding_dimension() == 384
    assert model.max_seq_length == 32768


def test_truncation_and_dimensions_are_its_own(default_model: EmbeddingModel) -> None:
    model = SentenceTransformer(modules=[OsaEncoder()], device="cpu", truncate_dim=128)
    model.max_seq_length = 12
    (vector,) = model.encode([TEXTS[3]], normalize_embeddings=True)
    cut = default_model.tokenizer.encode([TEXTS[3]], 12)[0].ids  # type: ignore[union-attr]
    expected = default_model.embed_ids([cut]).embeddings[0, :128].detach()
    np.testing.assert_allclose(vector, expected / expected.norm(), atol=1e-6)


def test_it_saves_and_loads_by_sentence_transformers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = ["the cat sat", "a dog ran on the mat"]
    model = SentenceTransformer(modules=[OsaEncoder(tiny_checkpoint)], device="cpu")
    model.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(texts), model.encode(texts))
    (own,) = (tmp_path / "saved").glob("*OsaEncoder")
    served = EmbeddingModel.from_pretrained(own).encode(texts)
    np.testing.assert_allclose(served, model.encode(texts), atol=5e-6)


def test_it_has_gradients(tiny_checkpoint: Path) -> None:
    encoder = OsaEncoder(tiny_checkpoint).train()
    features = encoder(encoder.preprocess(["the cat sat", "a dog"]))
    loss = (features["sentence_embedding"][0] * features["sentence_embedding"][1]).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    alphas = [value for name, value in encoder.named_parameters() if name.endswith("alpha")]
    assert all(alpha.grad is not None and torch.isfinite(alpha.grad).all() for alpha in alphas)


def test_what_is_no_text_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"inputs\[1\] must be a string, got an integer"):
        OsaEncoder(tiny_checkpoint).preprocess(["a", 1])  # type: ignore[list-item]
    make_tiny_model(vocab_size=None, feature_size=3).save_pretrained(tmp_path / "features")
    with pytest.raises(InputError, match="this checkpoint has no tokenizer"):
        OsaEncoder(tmp_path / "features")
