"""Chunking: whole sentences where they fit, requested spans."""

from __future__ import annotations

import re

import pytest

from osa.model.documents.chunk_ranges import Chunk
from osa.service.errors import ValidationError
from osa.service.inference.chunking import Chunking, cut

TEXT = "One two three. Four five! (Six seven?) Eight\nnine ten eleven twelve"


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def texts_of(chunks: list[Chunk], text: str) -> list[str]:
    return [text[chunk.start : chunk.end] for chunk in chunks]


def test_sentences_stay_whole_while_they_fit() -> None:
    offsets = words(TEXT)
    eight = cut(TEXT, offsets, Chunking("sentences", 8), 0)
    assert texts_of(eight, TEXT) == [
        "One two three. Four five!",
        "(Six seven?) Eight",
        "nine ten eleven twelve",
    ]
    three = cut(TEXT, offsets, Chunking("sentences", 3), 0)
    assert texts_of(three, TEXT) == [
        "One two three",
        ".",
        "Four five!",
        "(Six seven",
        "?)",
        "Eight",
        "nine ten eleven",
        "twelve",
    ]


def test_spans_take_the_tokens_that_they_touch() -> None:
    offsets = words(TEXT)
    start = TEXT.index("Four")
    spans = [[(start, start + 9), (0, len(TEXT)), (start + 2, start + 3)]]
    found = cut(TEXT, offsets, Chunking("spans", spans=spans), 0)
    assert [(chunk.first, chunk.stop) for chunk in found] == [(4, 6), (0, len(offsets)), (4, 5)]
    assert [(chunk.start, chunk.end) for chunk in found] == spans[0]


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 2), (0, 1000)])
def test_spans_that_are_none_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match=r"spans\[2\]\[0\] must be \[start, end\) within"):
        cut(TEXT, words(TEXT), Chunking("spans", spans=[[], [], [span]]), 2)


def test_a_span_without_a_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="holds no token"):
        cut("a   b", words("a   b"), Chunking("spans", spans=[[(1, 3)]]), 0)


def test_too_many_chunks_are_refused() -> None:
    text = "a " * 5000
    with pytest.raises(ValidationError, match="falls into 5000 chunks, at most 4096"):
        cut(text, words(text), Chunking("tokens", 1), 0)


def test_a_text_without_tokens_has_no_chunks() -> None:
    assert cut("", [], Chunking("sentences"), 0) == []
    assert cut("", [], Chunking("tokens"), 0) == []
