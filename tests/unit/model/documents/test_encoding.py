"""``encode_documents``: late chunks in groups, alone and in batches, streamed and in windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.config import HeadConfig
from osa.model.documents.document_vectors import DocumentVectors
from osa.model.errors import InputError
from tests.conftest import WORDS, make_tiny_model

STREAMED = "osa.model.documents.encoding.STREAMED_FROM"


def text_of(words: int, seed: int = 0) -> str:
    generator = np.random.default_rng(seed)
    return " ".join(generator.choice(WORDS[4:], words))


def same(one: DocumentVectors, other: DocumentVectors, atol: float = 0.0) -> None:
    np.testing.assert_allclose(one.vectors, other.vectors, atol=atol, rtol=0)
    assert (one.ranges, one.chunks) == (other.ranges, other.chunks)
    assert np.array_equal(one.groups, other.groups)
    assert np.array_equal(one.weights, other.weights)


def test_a_document_has_the_same_bits_alone_and_beside_others(tiny_model: EmbeddingModel) -> None:
    texts = [text_of(words, words) for words in (150, 3, 90, 200, 33)]
    every = tiny_model.encode_documents(texts, 3, chunk_tokens=10, batch_tokens=300)
    assert [len(one.vectors) for one in every] == [3, 1, 3, 3, 3]
    for text, found in zip(texts, every, strict=True):
        same(tiny_model.encode_documents(text, 3, chunk_tokens=10), found)
        assert found.weights.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-6)


def test_vectors_are_those_of_late_chunks(tiny_model: EmbeddingModel) -> None:
    text = text_of(50)
    found = tiny_model.encode_documents(text, 64, chunk_tokens=8)
    assert [chunk.tokens for chunk in found.chunks] == [8] * 6 + [2]
    spans = [(1 + chunk.first, 1 + chunk.stop) for chunk in found.chunks]
    wanted = dict(tiny_model.encode_chunks(text, spans))
    for place, vector in enumerate(found.vectors):
        np.testing.assert_allclose(vector, wanted[place], atol=1e-5)
    few = tiny_model.encode_documents(text, 2, chunk_tokens=8)
    for group, vector in enumerate(few.vectors):
        total = found.vectors[few.groups == group].sum(0)
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)
    parts = [text[start:end] for ranges in few.ranges for start, end in ranges]
    assert sum(len(part.split()) for part in parts) == 50


def test_long_documents_are_streamed(
    tiny_model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text_of(200, 1), text_of(20, 2), text_of(700, 3)]
    whole = tiny_model.encode_documents(texts[:2], 4, chunk_tokens=16)
    used: list[Any] = []
    stream = EmbeddingModel.stream

    def count(self: EmbeddingModel, *given: Any) -> Iterator[Any]:
        used.append(given)
        return stream(self, *given)

    monkeypatch.setattr(EmbeddingModel, "stream", count)
    monkeypatch.setattr(STREAMED, 100)
    found = tiny_model.encode_documents(texts, 4, chunk_tokens=16)
    assert len(used) == 2, "one is over the limit, one over max_seq_len"
    for one, other in zip(whole, found, strict=False):
        same(one, other, atol=1e-5)
    assert sum(chunk.tokens for chunk in found[2].chunks) == 700


@pytest.mark.parametrize("changes", [{"mixer": "softmax"}, {"positions": "learned"}])
def test_what_cannot_be_streamed_is_read_in_windows_of_whole_chunks(
    changes: dict[str, object],
) -> None:
    model = make_tiny_model(max_seq_len=32, **changes)
    text = text_of(100)
    found = model.encode_documents(text, 64, chunk_tokens=10)
    assert [chunk.tokens for chunk in found.chunks] == [10] * 10
    for first in range(0, 10, 3):  # three chunks and two special tokens fit
        window = found.chunks[first : first + 3]
        part = text[window[0].start : window[-1].end]
        alone = model.encode_documents(part, 64, chunk_tokens=10)
        assert np.array_equal(alone.vectors, found.vectors[first : first + 3])
    large = model.encode_documents(text, 64)
    assert [chunk.tokens for chunk in large.chunks] == [30, 30, 30, 10]


def test_sentences_are_kept_whole(tiny_model: EmbeddingModel) -> None:
    text = "the cat sat . a dog ran on the mat . the dog sat ."
    found = tiny_model.encode_documents(text, split_by="sentences", chunk_tokens=9)
    parts = [text[start:end] for ((start, end),) in found.ranges]
    assert parts == ["the cat sat .", "a dog ran on the mat .", "the dog sat ."]


def test_chunks_are_grouped_in_the_dimensions_that_are_kept(tiny_model: EmbeddingModel) -> None:
    text = text_of(120)
    chunks = tiny_model.encode_documents(text, 64, chunk_tokens=4, dimensions=8).vectors
    found = tiny_model.encode_documents(text, 5, chunk_tokens=4, dimensions=8)
    assert found.vectors.shape == (5, 8)
    for group, vector in enumerate(found.vectors):
        total = chunks[found.groups == group].sum(0)
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)


def test_a_text_of_blanks_has_no_vectors(tiny_model: EmbeddingModel) -> None:
    blank, other = tiny_model.encode_documents(["  ", "the cat"])
    assert blank.vectors.shape == (0, 16)
    assert len(other.vectors) == 1
    assert tiny_model.encode_documents([]) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"vectors": 0}, "vectors must be 1 to 64, got 0"),
        ({"vectors": 65}, "vectors must be 1 to 64, got 65"),
        ({"vectors": True}, "vectors must be 1 to 64, got True"),
        ({"chunk_tokens": 0}, "chunk_tokens must be at least 1, got 0"),
        ({"split_by": "pages"}, "split_by must be tokens or sentences, got 'pages'"),
        ({"dimensions": 17}, "dimensions must be 1 to 16, got 17"),
        ({"texts": ["a", ""]}, r"texts\[1\] is empty"),
        ({"texts": [7]}, r"texts\[0\] must be a string"),
    ],
)
def test_what_cannot_be_is_refused(
    tiny_model: EmbeddingModel, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        tiny_model.encode_documents(**{"texts": ["the cat"], **arguments})


def test_numpys_whole_numbers_are_numbers(tiny_model: EmbeddingModel) -> None:
    two: Any = np.int64(2)
    found = tiny_model.encode_documents("the cat sat", two, chunk_tokens=two - 1)
    assert len(found.vectors) == 2


def test_models_without_vectors_of_text_are_refused() -> None:
    with pytest.raises(InputError, match="no tokenizer"):
        make_tiny_model(vocab_size=None, feature_size=3).encode_documents(["a"])
    head = HeadConfig(kind="classifier", labels=("a", "b"))
    with pytest.raises(InputError, match=r"has a head \(classifier\)"):
        make_tiny_model(head=head.__dict__, matryoshka_dims=()).encode_documents(["a"])


def test_gradients_are_not_kept(tiny_model: EmbeddingModel) -> None:
    assert torch.is_grad_enabled()
    assert isinstance(tiny_model.encode_documents("the cat").vectors, np.ndarray)
