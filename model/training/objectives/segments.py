"""Long texts cut into segments of whole sentences, where a tokenizer finds their tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from osa.model.tokenization import TextTokenizer

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s|\n")


@dataclass(frozen=True)
class Segment:
    """A run of a text.

    Attributes:
        start: First character.
        stop: One past its last character.
        tokens: Its length [tokens], special tokens not counted.
    """

    start: int
    stop: int
    tokens: int


def segment(text: str, offsets: Sequence[tuple[int, int]], budget: int) -> list[Segment]:
    """Cut a text at sentence ends, else between words, else between tokens.

    Args:
        text: The text.
        offsets: Characters of each token, as (start, stop).
        budget: Longest segment [tokens].

    Returns:
        Segments that together hold every token once; none for a text without tokens.
    """
    segments = []
    first = 0
    sentence = word = 0  # latest places where a cut is good
    for place in range(1, len(offsets) + 1):
        if place < len(offsets):
            gap = text[max(0, offsets[place - 1][1] - 2) : offsets[place][0]]
            if offsets[place][0] > offsets[place - 1][1]:
                word = place
                if _SENTENCE_END.search(gap):
                    sentence = place
        if place == len(offsets) or place - first == budget:
            cut = place
            if place < len(offsets):
                cut = next((good for good in (sentence, word) if good > first), place)
            segments.append(Segment(offsets[first][0], offsets[cut - 1][1], cut - first))
            first = cut
    return segments


def segment_texts(tokenizer: TextTokenizer, texts: Sequence[str], budget: int) -> list[list[str]]:
    """The segments of every text; a text without tokens is one segment."""
    found = []
    for text, offsets in zip(texts, tokenizer.offsets(texts), strict=True):
        parts = segment(text, offsets, budget)
        if len(parts) <= 1:
            found.append([text])
        else:
            found.append([text[part.start : part.stop] for part in parts])
    return found
