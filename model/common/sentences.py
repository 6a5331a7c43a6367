"""Where a sentence ends: one rule for served chunks, training segments and corpus sentences."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SENTENCE_END = re.compile(
    "(?<=[.!?\u2026])[\"'\u201d\u2019)\\]]*\\s+"  # Western full stops, closing quotes, space
    "|(?<=[\u3002\uff01\uff1f])"  # East Asian ones, which no space follows
    r"|\n+"
)


def sentence_ends(text: str) -> list[int]:
    """Positions just after each sentence end, trailing white space included [characters].

    The end of the text is listed only where a sentence end is followed by white space.
    """
    return [match.end() for match in _SENTENCE_END.finditer(text)]


def sentence_bounds(text: str, offsets: Sequence[tuple[int, int]] | np.ndarray) -> list[int]:
    """Index of the first token after each sentence end, ascending; the last one is n.

    ``offsets`` are the characters (start, stop) of each token, without special tokens; n pairs, or
    integers [n, 2].
    """
    starts = [start for start, _ in offsets]
    bounds = {bisect.bisect_left(starts, end) for end in sentence_ends(text)}
    return sorted(bounds | {len(offsets)})
