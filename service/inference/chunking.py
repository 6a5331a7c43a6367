"""Chunk boundaries of documents: by tokens, by sentences, or given by the caller.

Pure functions over a text and the character offsets of its tokens. A chunk is a range of tokens and
the range of characters that they cover.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from osa.model.documents.chunk_ranges import Chunk, Offsets, split
from osa.model.documents.limits import CHUNK_TOKENS
from osa.service.errors import ValidationError

Strategy = Literal["tokens", "sentences", "spans"]
MAX_CHUNKS = 4096
"""Chunks of one document."""
MAX_REQUEST_CHUNKS = 65_536
"""Chunks of all documents of a request."""


@dataclass(frozen=True)
class Chunking:
    """How texts are cut.

    Attributes:
        strategy: By tokens, by sentences, or by given spans.
        size: Most tokens of a chunk.
        overlap: Tokens that a window shares with the one before.
        spans: Characters [start, end) of every chunk, a list for each text; for ``spans``.
    """

    strategy: Strategy = "tokens"
    size: int = CHUNK_TOKENS
    overlap: int = 0
    spans: Sequence[Sequence[tuple[int, int]]] | None = None


def cut(text: str, offsets: Offsets, chunking: Chunking, row: int) -> list[Chunk]:
    """The chunks of a text.

    Args:
        text: The document.
        offsets: Characters (start, stop) of every token, special tokens left out.
        chunking: How.
        row: Which of the request's texts it is.

    Raises:
        ValidationError: An invalid span, or too many chunks.
    """
    if chunking.strategy == "spans":
        assert chunking.spans is not None  # the request was checked
        check_chunks(len(chunking.spans[row]), row)
        starts, stops = [start for start, _ in offsets], [stop for _, stop in offsets]
        return [
            _tokens_of(span, starts, stops, len(text), f"spans[{row}][{place}]")
            for place, span in enumerate(chunking.spans[row])
        ]
    chunks = split(text, offsets, chunking.strategy, chunking.size, chunking.overlap)
    check_chunks(len(chunks), row)
    return chunks


def check_chunks(count: int, row: int) -> None:
    """Refuse a document that falls into too many chunks.

    Raises:
        ValidationError: Naming its place, ``row``.
    """
    if count > MAX_CHUNKS:
        raise ValidationError(
            f"input {row} falls into {count} chunks, at most {MAX_CHUNKS} are allowed: "
            "take larger ones",
            param="chunking",
        )


def check_request_chunks(count: int) -> None:
    """Refuse a request whose documents fall into too many chunks together.

    Raises:
        ValidationError: Saying what is allowed.
    """
    if count > MAX_REQUEST_CHUNKS:
        raise ValidationError(
            f"the inputs fall into {count} chunks or more, at most {MAX_REQUEST_CHUNKS} are "
            "allowed together: take larger ones, or send the inputs in parts",
            param="chunking",
        )


def _tokens_of(
    span: tuple[int, int], starts: Sequence[int], stops: Sequence[int], length: int, place: str
) -> Chunk:
    """The chunk of characters [start, end): the tokens that overlap them.

    Args:
        span: The characters.
        starts: First character of every token.
        stops: One past the last character of every token.
        length: Characters of the text.
        place: Of the span in the request, for messages.

    Raises:
        ValidationError: The span is outside the text, or covers no token.
    """
    start, end = span
    if not 0 <= start < end <= length:
        raise ValidationError(
            f"{place} must be [start, end) within the text's {length} characters, got "
            f"{_shown(span)}",
            param="chunking",
        )
    first, stop = bisect.bisect_right(stops, start), bisect.bisect_left(starts, end)
    if first >= stop:
        raise ValidationError(
            f"{place} holds no token of the part that is embedded", param="chunking"
        )
    return Chunk(start, end, first, stop)


def _shown(span: tuple[int, int]) -> str:
    """A span as messages have it; JSON allows integers of any length."""
    return str(list(span)) if max(map(abs, span)) < 2**63 else "larger numbers"
