"""Segments: every token once, within the budget, cut at sentence ends if there are any."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from osa.model import EmbeddingModel
from osa.model.common.sentences import sentence_bounds
from osa.model.training.objectives.segments import segment, segment_texts
from osa.service.inference.chunking import Chunking, cut


def words(text: str) -> list[tuple[int, int]]:
    """Characters of every word, as a tokenizer of whole words would give them."""
    places, start = [], 0
    for word in text.split(" "):
        if word:
            places.append((start, start + len(word)))
        start += len(word) + 1
    return places


def texts(text: str, offsets: list[tuple[int, int]], max_tokens: int) -> list[str]:
    parts = segment(text, offsets, max_tokens)
    return [text[offsets[first][0] : offsets[stop - 1][1]] for first, stop in parts]


@given(
    text=st.text(alphabet="ab. \n!", max_size=120),
    budget=st.integers(1, 20),
)
def test_segments_hold_every_token_once_and_in_order(text: str, budget: int) -> None:
    offsets = words(text.replace("\n", " "))
    parts = list(segment(text, offsets, budget))
    assert [token for first, stop in parts for token in range(first, stop)] == [
        *range(len(offsets))
    ]
    assert all(1 <= stop - first <= budget for first, stop in parts)


def test_a_cut_is_at_the_last_sentence_end_that_fits() -> None:
    text = "One two three. Four five. Six seven eight nine ten."
    assert texts(text, words(text), 6) == [
        "One two three. Four five.",
        "Six seven eight nine ten.",
    ]


def test_a_long_sentence_is_cut_between_words() -> None:
    text = "one two three four five"
    assert texts(text, words(text), 2) == [
        "one two",
        "three four",
        "five",
    ]


def test_a_line_break_ends_a_sentence_and_an_abbreviated_number_does_not() -> None:
    text = "Title here\nversion 3.5 is out now"
    offsets = [(0, 5), (6, 10), *[(a + 11, b + 11) for a, b in words(text[11:])]]
    assert texts(text, offsets, 4) == ["Title here", "version 3.5 is out", "now"]


@given(text=st.text(alphabet='ab. \n!")\u3002\u2026', max_size=120))
def test_segments_of_whole_sentences_are_the_chunks_that_are_served(text: str) -> None:
    offsets = words(text.replace("\n", " "))
    bounds = [0, *sentence_bounds(text, offsets)]
    longest = max((stop - start for start, stop in pairwise(bounds)), default=1)
    for size in range(max(longest, 1), 25):
        served = cut(text, offsets, Chunking("sentences", size), 0)
        assert list(segment(text, offsets, size)) == [(c.first, c.stop) for c in served]


def test_no_tokens_no_segments() -> None:
    assert list(segment("   ", [], 4)) == []


def test_segments_tokenized_alone_are_the_whole_text_tokenized() -> None:
    tokenizer = EmbeddingModel.from_pretrained().tokenizer
    assert tokenizer is not None
    text = "Orthogonal matrices keep lengths. " * 20 + "Supercalifragilistic words are cut.\nEnd"
    (parts,) = segment_texts(tokenizer, [text], 30)
    assert len(parts) > 3
    joined = [token for part in tokenizer.encode_parts(parts) for token in part]
    whole = tokenizer.encode([text])[0].ids
    assert [*tokenizer.prefix, *joined, *tokenizer.suffix] == whole
    assert segment_texts(tokenizer, ["short", ""], 30) == [["short"], [""]]
