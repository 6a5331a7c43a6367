"""What tokenising returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class TokenizedText(NamedTuple):
    """The ids of one text.

    Attributes:
        ids: Token ids, special tokens included.
        truncated: Number of tokens that were cut off.
        offsets: Characters (start, stop) of each token, special tokens left out; if requested.
        unknown: Of the ids, how many stand for what the vocabulary does not have.
    """

    ids: list[int]
    truncated: int
    offsets: Sequence[tuple[int, int]] = ()
    unknown: int = 0


class Token(NamedTuple):
    """One token of a text.

    Attributes:
        id: Its id.
        text: Its characters in the text; its name where it is special.
        special: Whether it was added to the text.
        start: First character in the text; None where special.
        stop: One past its last character; None where special.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None
