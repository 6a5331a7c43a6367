"""Chunks of a document: ranges of its tokens, with the characters that they cover.

Pure functions over the characters (start, stop) of every token, special tokens left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from osa.model.common.sentences import sentence_bounds
from osa.model.documents.limits import CHUNK_TOKENS

Offsets = Sequence[tuple[int, int]] | np.ndarray
"""Characters (start, stop) of every token, or integers [n, 2]."""
Splitting = Literal["tokens", "sentences"]


class Chunk(NamedTuple):
    """A part of a text.

    Attributes:
        start: Its first character.
        end: One past its last character.
        first: Its first token, special tokens not counted.
        stop: One past its last token.
    """

    start: int
    end: int
    first: int
    stop: int

    @property
    def tokens(self) -> int:
        """How many it has."""
        return self.stop - self.first


def split(
    text: str,
    offsets: Offsets,
    by: Splitting = "tokens",
    size: int = CHUNK_TOKENS,
    overlap: int = 0,
) -> list[Chunk]:
    """The chunks of a text.

    Args:
        text: The document.
        offsets: Of all its tokens.
        by: In windows of tokens, or in whole sentences.
        size: Most tokens of a chunk.
        overlap: Tokens that a window shares with the one before; fewer than ``size``.
    """
    if by == "tokens":
        pieces = windows(len(offsets), size, overlap)
    else:
        pieces = sentences(text, offsets, size)
    return [
        Chunk(int(offsets[first][0]), int(offsets[stop - 1][1]), first, stop)
        for first, stop in pieces
    ]


def windows(count: int, size: int, overlap: int = 0) -> Iterator[tuple[int, int]]:
    """Token ranges of at most ``size``, each beginning ``overlap`` before the last one's end."""
    first = 0
    while first < count:
        stop = min(first + size, count)
        yield first, stop
        if stop == count:
            return
        first = stop - overlap


def sentences(text: str, offsets: Offsets, size: int) -> Iterator[tuple[int, int]]:
    """Token ranges of whole sentences, as many as fit ``size``; longer ones in windows."""
    first = previous = 0
    for bound in sentence_bounds(text, offsets):
        if bound - first > size and previous > first:
            yield first, previous
            first = previous
        if bound - first > size:
            yield from ((first + a, first + b) for a, b in windows(bound - first, size))
            first = bound
        previous = bound
    if previous > first:
        yield first, previous
