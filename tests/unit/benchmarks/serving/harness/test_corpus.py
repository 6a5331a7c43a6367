"""Texts of known lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.serving.harness import corpus
from benchmarks.serving.harness.corpus import Mixture, make_corpora, make_texts, plain_words
from osa.model import EmbeddingModel
from tests.conftest import WORDS, make_tokenizer
from tests.unit.benchmarks.serving.harness.conftest import corpus_of


def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(make_tokenizer().to_json())


def test_texts_have_the_tokens_that_were_asked_for_and_differ() -> None:
    own = tokenizer()
    words = plain_words(own)
    assert set(words) == {word for word in WORDS if word.islower() and len(word) > 2}
    lengths = [3, 12, 40, 40]
    texts = make_texts(words, lengths, seed=1)
    assert [len(one) for one in own.encode_batch(texts)] == lengths
    assert texts[2] != texts[3]
    assert texts == make_texts(words, lengths, seed=1)


def test_a_text_without_room_for_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2"):
        make_texts(["cat"], [5, 2], seed=0)


def test_the_mixture_is_short_texts_with_a_long_tail() -> None:
    lengths = Mixture().sample(5000, np.random.default_rng(0))
    assert min(lengths) >= 4
    assert max(lengths) <= 256
    assert np.median(lengths) < 40
    assert 0.05 < np.mean([length > 150 for length in lengths]) < 0.2


def test_separation_is_the_nearest_pair() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.1, 1]], dtype=np.float32)
    assert corpus_of(vectors).separation == pytest.approx(0.1)


def test_vectors_are_kept_until_the_model_changes(
    tiny_model: EmbeddingModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(corpus, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(corpus, "minilm_tokenizer", tokenizer)
    tiny_model.save_pretrained(tmp_path / "model" / "checkpoint")
    first = make_corpora("osa", tmp_path / "model", (5,), 3)
    assert capsys.readouterr().err.splitlines() == [
        "reference vectors of osa: 3 texts of mixed lengths",
        "reference vectors of osa: 3 texts of 5 tokens",
    ]
    again = make_corpora("osa", tmp_path / "model", (5,), 3)
    assert capsys.readouterr().err.count(", from ") == 2
    for key, one in first.items():
        np.testing.assert_array_equal(again[key].vectors, one.vectors)
        np.testing.assert_array_equal(one.vectors, tiny_model.encode(one.texts))
    (tmp_path / "model" / "more").write_text("another model")
    for entry in (tmp_path / "kept").iterdir():
        entry.write_bytes(b"half")  # a run that was stopped
    make_corpora("osa", tmp_path / "model", (), 3)
    assert ", from " not in capsys.readouterr().err
