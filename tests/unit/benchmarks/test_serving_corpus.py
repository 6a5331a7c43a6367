"""Texts of known lengths, and the check that an answer is its own text's vector."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest
from tokenizers import Tokenizer

from benchmarks.serving.corpus import Corpus, Mixture, make_texts, plain_words
from benchmarks.serving.peers import DEFAULT, PEERS
from benchmarks.serving.subject import Checker, UntellableTexts
from tests.conftest import WORDS, make_tokenizer

OSA = PEERS["osa"]


def unit_rows(count: int, width: int = 16) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def corpus_of(vectors: np.ndarray) -> Corpus:
    return Corpus([f"text {row}" for row in range(len(vectors))], [3] * len(vectors), vectors)


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


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (lambda own, other: [own.tolist()], True),
        (lambda own, other: [(own + 5e-5).tolist()], True),
        (lambda own, other: [(own + 5e-4).tolist()], False),
        (lambda own, other: [other.tolist()], False),
        (lambda own, other: [own.tolist()[:-1]], False),
        (lambda own, other: [[None] * len(own)], False),
        (lambda own, other: [], False),
        (lambda own, other: {"error": "no"}, False),
    ],
    ids=["own", "near", "off", "another's", "short", "no numbers", "empty", "error"],
)
def test_only_a_texts_own_vector_passes(body: object, right: bool) -> None:
    vectors = unit_rows(4)
    check = Checker(OSA, corpus_of(vectors), 1e-4)
    assert callable(body)
    assert check(1, orjson.dumps(body(vectors[1], vectors[2]))) is right
    assert check.worst <= 1e-4


def test_what_is_no_json_does_not_pass() -> None:
    assert not Checker(OSA, corpus_of(unit_rows(2)), 1e-4)(0, b"<html>")


def test_texts_that_a_tolerance_cannot_tell_apart_are_refused() -> None:
    vectors = unit_rows(3)
    vectors[2] = vectors[0] + 1e-5
    with pytest.raises(UntellableTexts, match="cannot tell"):
        Checker(OSA, corpus_of(vectors), 1e-4)


def test_every_contender_reads_what_its_protocol_answers() -> None:
    vector = [0.5, -0.25]
    bodies: dict[str, object] = {
        "osa": [vector],
        "mosec": {"embedding": vector},
        "litserve": {"embedding": vector},
        "fastapi": {"embedding": vector},
        "triton": {"outputs": [{"name": "embedding", "data": vector}]},
        "infinity": {"data": [{"index": 0, "embedding": vector}]},
        "vllm": {"data": [{"index": 0, "embedding": vector}]},
    }
    for name in DEFAULT:
        body = bodies[name.partition("-")[0]]
        assert PEERS[name].read(orjson.dumps(body)).tolist() == vector
        sent = PEERS[name].request("some text")
        assert b"some text" in sent.body
        assert dataclasses.asdict(sent)["method"] == "POST"
