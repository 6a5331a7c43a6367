"""Sentence ends of Western and East Asian texts, in characters and in tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest

from osa.model.common.sentences import sentence_bounds, sentence_ends


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ('He said "no." Then (he left.) So\u2026 yes', ['He said "no." ', "Then (he left.) ",
                                                       "So\u2026 ", "yes"]),
        ("Version 3.5 is out\n\nNext line", ["Version 3.5 is out\n\n", "Next line"]),
        ("\u3053\u308c\u3002\u305d\u308c\uff01", ["\u3053\u308c\u3002", "\u305d\u308c\uff01"]),
        ("", []),
    ],
)  # fmt: skip
def test_a_text_is_cut_after_each_sentence(text: str, pieces: list[str]) -> None:
    ends = sorted({0, *sentence_ends(text), len(text)})
    assert [text[start:stop] for start, stop in pairwise(ends)] == pieces


def test_bounds_are_the_tokens_after_sentence_ends_and_the_end_of_the_text() -> None:
    offsets = [(0, 3), (3, 4), (5, 8), (8, 9)]
    assert sentence_bounds("One. Two.", offsets) == [2, 4]
    assert sentence_bounds("One. Two. ", offsets) == [2, 4]
    assert sentence_bounds("  ", []) == [0]
