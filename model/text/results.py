"""What tokenising returns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np

Ids = list[int] | np.ndarray
"""Ids of a text; int32 where they are many and an array was asked for."""


def as_list(ids: Ids) -> list[int]:
    """Ids as a list."""
    return cast("list[int]", ids.tolist()) if isinstance(ids, np.ndarray) else ids


def joined(*parts: Ids) -> Any:
    """Ids one after the other: an array where one of them is."""
    if any(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
    return list(chain.from_iterable(parts))


def count_of(number: int, ids: Ids) -> int:
    """How often an id is among others."""
    return int((ids == number).sum()) if isinstance(ids, np.ndarray) else ids.count(number)


class TokenizedText(NamedTuple):
    """The ids of one text.

    Attributes:
        ids: Token ids, special tokens included; an int32 array where one was asked for and the
            text is long.
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
