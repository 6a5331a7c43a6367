"""Encodings of texts, a bounded number of characters at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from tokenizers import Tokenizer

from osa.model.text.cutter import TextCutter, describe
from osa.model.text.results import Ids, as_list

Direction = Literal["left", "right"]
Kept = TypeVar("Kept", bound=Sequence[Any] | np.ndarray)
Check = Callable[[], None]
"""Called between the steps of long work; raises where it is not wanted any more."""
SLICE = 65_536
"""Characters that are tokenised at once: what the library holds meanwhile is bounded by them."""
PARALLEL = "TOKENIZERS_PARALLELISM"
"""Variable of the library; where it says no, all work is done by the calling thread."""


def is_serial() -> bool:
    """Whether the library works on the calling thread alone."""
    return os.environ.get(PARALLEL, "yes").lower() in ("", "off", "false", "f", "no", "n", "0")


def go_on() -> None:
    """The ``Check`` of work that is always wanted."""


class Encoded(NamedTuple):
    """The tokens of a text, special tokens left out.

    Attributes:
        ids: Ids of those that are kept.
        total: Number of all.
        offsets: Characters (start, stop) of those that are kept; if requested.
    """

    ids: Ids
    total: int
    offsets: list[tuple[int, int]]


class Part(NamedTuple):
    """Some of the tokens of a text, in order.

    Attributes:
        text: Which of the texts.
        ids: Their ids.
        offsets: Their characters (start, stop) in the text.
        last: Whether no more of the text's follow.
    """

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    last: bool


class SlicedEncoder:
    """Encodes texts in groups of short ones and pieces of long ones, without special tokens.

    A text of more than ``SLICE`` characters is encoded in pieces where that is known to give the
    tokens of the whole (``TextCutter``), otherwise at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Encode with ``tokenizer``, which truncates and pads nothing."""
        self._tokenizer = tokenizer
        self._cutter = TextCutter.of(describe(tokenizer), tokenizer.encode_special_tokens)

    def encode(
        self,
        texts: Sequence[str],
        room: int | None,
        direction: Direction = "right",
        offsets: bool = False,
        check: Check = go_on,
        prompt: str = "",
        arrays: bool = False,
    ) -> Iterator[Encoded]:
        """Tokens of every text, in order; no more than is kept of them is held.

        Args:
            texts: Any Unicode text without lone surrogates.
            room: Most tokens of a text; None keeps all.
            direction: Which side is cut.
            offsets: Whether to find the characters of tokens, which takes longer.
            check: Called every ``SLICE`` characters.
            prompt: Put before every text.
            arrays: Give the ids of texts that are encoded in pieces as arrays: a list of millions
                holds the interpreter for a while each time that it is touched.
        """
        for group in in_slices(prompt + text for text in texts):
            check()
            if self._cutter is not None and len(group[0]) > SLICE:
                found = self._encode_long(group[0], room, direction, offsets, check)
                yield found if arrays else found._replace(ids=as_list(found.ids))
                continue
            for encoding in self._batch(group, offsets):
                ids, places = encoding.ids, encoding.offsets if offsets else []
                if room is None or len(ids) <= room:
                    yield Encoded(ids, len(ids), places)
                else:
                    kept = cut(ids, room, direction)
                    yield Encoded(kept, len(ids), cut(places, room, direction))

    def parts(self, texts: Sequence[str], check: Check = go_on) -> Iterator[Part]:
        """All tokens of every text with their characters, in parts that are small for long texts.

        Args:
            texts: As for ``encode``.
            check: As for ``encode``.
        """
        place = 0
        for group in in_slices(texts):
            check()
            if self._cutter is not None and len(group[0]) > SLICE:
                for start, _, encoding in self._pieces(group[0], True, check):
                    yield Part(place, encoding.ids, moved(encoding.offsets, start), False)
                yield Part(place, [], [], True)
            else:
                for row, encoding in enumerate(self._batch(group, True)):
                    yield Part(place + row, encoding.ids, encoding.offsets, True)
            place += len(group)

    def stream(
        self, texts: Iterable[str], offsets: bool = False, check: Check = go_on
    ) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Tokens of one text that comes in pieces, and their characters, as they are known.

        Args:
            texts: Pieces that follow each other; they may end anywhere.
            offsets: Whether to find the characters of tokens.
            check: Called every ``SLICE`` characters.
        """
        held: list[str] = []
        size = begun = 0
        enough = 4 * SLICE
        for text in texts:
            held.append(text)
            size += len(text)
            if self._cutter is None or size <= enough:
                continue
            joined = "".join(held)
            done = 0
            for place, stop, encoding in self._pieces(joined, offsets, check, more=True):
                yield encoding.ids, moved(encoding.offsets, begun + place) if offsets else []
                done = stop
            joined = joined[done:]
            held, size, begun = [joined], len(joined), begun + done
            enough = max(4 * SLICE, 2 * size)  # where nothing can be cut, time stays linear
        joined = "".join(held)
        if self._cutter is None:
            check()
            for encoding in self._batch([joined], offsets):
                yield encoding.ids, moved(encoding.offsets, begun) if offsets else []
            return
        for place, _, encoding in self._pieces(joined, offsets, check):
            yield encoding.ids, moved(encoding.offsets, begun + place) if offsets else []

    def _batch(self, texts: Sequence[str], offsets: bool) -> list[Any]:
        """The library's encodings."""
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        found: list[Any] = encode(list(texts), add_special_tokens=False)
        return found

    def _encode_long(
        self, text: str, room: int | None, direction: Direction, offsets: bool, check: Check
    ) -> Encoded:
        """As ``encode``, of one text in pieces; its ids are an array."""
        kept: deque[tuple[np.ndarray, list[tuple[int, int]]]] = deque()
        total = held = 0
        for start, _, encoding in self._pieces(text, offsets, check):
            total += len(encoding)
            if room is not None and direction == "right" and held >= room:
                continue
            places = moved(encoding.offsets, start) if offsets else []
            kept.append((np.array(encoding.ids, dtype=np.int32), places))
            held += len(encoding)
            while room is not None and direction == "left" and held - len(kept[0][0]) >= room:
                held -= len(kept.popleft()[0])
        ids = np.concatenate([part for part, _ in kept] or [np.zeros(0, np.int32)])
        spans = [span for _, part in kept for span in part]
        if room is not None:
            ids, spans = cut(ids, room, direction), cut(spans, room, direction)
        return Encoded(ids, total, spans)

    def _pieces(
        self, text: str, offsets: bool, check: Check, more: bool = False
    ) -> Iterator[tuple[int, int, Any]]:
        """Encodings of a text's pieces, with each one's first character and one past its last.

        Args:
            text: The text.
            offsets: Whether to find the characters of tokens.
            check: Called every ``SLICE`` characters.
            more: More of the text follows: what that could change is left out.
        """
        assert self._cutter is not None  # the callers have looked
        group: list[tuple[int, str]] = []
        at_once = 1 if is_serial() else SLICE  # what nobody shares is checked more often

        def encoded() -> Iterator[tuple[int, int, Any]]:
            check()
            encodings = self._batch([each for _, each in group], offsets)
            for (place, each), encoding in zip(group, encodings, strict=True):
                yield place, place + len(each), encoding
            group.clear()

        for start, piece in self._cutter.pieces(text, check):
            stop = start + len(piece)
            if more and (stop > len(text) - SLICE or self._cutter.is_blank(text, stop)):
                break
            group.append((start, piece))
            if stop - group[0][0] >= at_once:
                yield from encoded()
        if group:
            yield from encoded()


def in_slices(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in groups of at most ``SLICE`` characters; a longer text is a group of its own."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > SLICE:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def cut(items: Kept, length: int, direction: Direction) -> Kept:
    """The first ``length`` items, or the last ones where the left side is cut."""
    kept: Any = items
    if len(items) > length:
        kept = kept[:length] if direction == "right" else kept[len(items) - length :]
    return cast("Kept", kept)


def moved(offsets: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """The same spans of characters, further on by ``by``."""
    return [(start + by, stop + by) for start, stop in offsets] if by else list(offsets)
