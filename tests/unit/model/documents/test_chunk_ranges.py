"""Ranges of tokens: windows and sentences, every token in one."""

from __future__ import annotations

import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from osa.model.documents.chunk_ranges import Chunk, sentences, split, windows


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


@given(st.integers(0, 300), st.integers(1, 50), st.data())
def test_windows_cover_every_token_and_share_the_overlap(
    count: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    found = list(windows(count, size, overlap))
    assert {place for first, stop in found for place in range(first, stop)} == set(range(count))
    assert all(0 < stop - first <= size for first, stop in found)
    for (_, stop), (first, _) in itertools.pairwise(found):
        assert stop - first == overlap


@given(
    st.lists(st.sampled_from(["word", "two words", ".", "!\n", "?) ", "。", " "]), max_size=60),
    st.integers(1, 12),
)
def test_sentences_cover_every_token_once_in_order(parts: list[str], size: int) -> None:
    text = "".join(parts)
    offsets = words(text)
    found = list(sentences(text, offsets, size))
    assert [place for first, stop in found for place in range(first, stop)] == list(
        range(len(offsets))
    )
    assert all(stop - first <= size for first, stop in found)


def test_arrays_of_characters_are_cut_as_lists_are() -> None:
    text = "One two. Three four five! Six"
    offsets = words(text)
    for by in ("tokens", "sentences"):
        found = split(text, offsets, by, 4)
        assert split(text, np.array(offsets), by, 4) == found
        assert all(type(number) is int for chunk in found for number in chunk)
    assert split(text, offsets, "tokens", 4, 1)[1] == Chunk(9, 25, 3, 7)
    assert split("", np.zeros((0, 2), np.int64)) == []
