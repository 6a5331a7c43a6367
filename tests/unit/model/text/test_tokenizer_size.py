"""A tokenizer that is too large is refused before it is built."""

from __future__ import annotations

import json
import time

import pytest

from osa.model.errors import InputError
from osa.model.text.tokenizer_size import MOST_RULES, check_content
from osa.model.tokenization import TextTokenizer


def content(**changes: object) -> bytes:
    pieces = [[f"piece{number}", -1.0] for number in range(250_000)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": pieces}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model, **changes}).encode()


def test_more_ids_than_the_model_embeds_are_counted_first() -> None:
    """Building it takes seconds in which no other thread runs."""
    large = content()
    began = time.process_time()
    with pytest.raises(InputError, match="has 250000 ids, the model embeds 30522"):
        TextTokenizer.from_json(large, 30522)
    counted = time.process_time() - began
    began = time.process_time()
    assert TextTokenizer.from_json(large, 250_000).vocab_size == 250_000
    assert counted < time.process_time() - began


def test_rules_of_megabytes_are_refused() -> None:
    rule = {"type": "Prepend", "prepend": "a" * MOST_RULES}
    with pytest.raises(InputError, match=r"bytes of rules beside its vocabulary, at most 4194304"):
        TextTokenizer.from_json(content(normalizer=rule))


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"3"])
def test_what_is_no_tokenizer_is_refused(wrong: bytes) -> None:
    with pytest.raises(InputError, match="is not a tokenizer"):
        TextTokenizer.from_json(wrong)
    check_content(b"{}")  # judged by the library
