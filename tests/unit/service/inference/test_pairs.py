"""Texts and pairs of one request as ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from osa.service.engines.eager import EagerEngine
from osa.service.errors import ModelKindError
from osa.service.inference.pairs import count_characters, encode_texts
from osa.service.inference.request import EmbedOptions, Pair
from tests.conftest import make_tokenizer
from tests.head_models import make_head_model


def test_mixed_inputs_keep_their_order(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    about = EagerEngine(make_head_model(tmp_path, "reranker"), "cpu").info
    assert about.type_stride == about.vocab_size
    texts: list[str | Pair] = ["the cat", ("a dog", "the cat"), "a dog", ("the cat", "")]
    found = list(encode_texts(tokenizer, about, texts, 8, EmbedOptions()))
    assert found[0] == tokenizer.encode(["the cat"], 8)[0]
    assert found[2] == tokenizer.encode(["a dog"], 8)[0]
    expected = tokenizer.encode_pairs([("a dog", "the cat"), ("the cat", "")], 8, "right", 12)
    assert [found[1], found[3]] == expected
    assert max(found[1].ids) >= 12, "the second text has the other type"
    assert count_characters(texts) == 7 + 12 + 5 + 7
    about = dataclasses.replace(about, task="embedding")
    with pytest.raises(ModelKindError, match="an embedding model"):
        encode_texts(tokenizer, about, texts, 8, EmbedOptions())
