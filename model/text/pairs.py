"""Two texts as one sequence of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from osa.model.text.results import TokenizedText, as_list
from osa.model.text.slices import Check, Direction, Encoded, SlicedEncoder, cut


class FramePart(NamedTuple):
    """What a pair consists of.

    Attributes:
        text: Which text of the pair (0, 1), or None for a special token.
        special: Id of the special token.
        kind: Token type.
    """

    text: int | None
    special: int
    kind: int


def pair_frame(tokenizer: Tokenizer) -> list[FramePart]:
    """The texts and special tokens of a pair, in order.

    Ids are put together by us: the library itself processes every piece that truncation cut off
    one text with every piece of the other.
    """
    one = tokenizer.encode("a", add_special_tokens=False)
    one.truncate(1)
    whole = tokenizer.post_process(one, one, True)
    frame: list[FramePart] = []
    for special, text, number, kind in zip(
        whole.special_tokens_mask, whole.sequence_ids, whole.ids, whole.type_ids, strict=True
    ):  # the library names the second text alone
        frame.append(FramePart(None if special else int(text == 1), number, kind))
    return frame


def join_pairs(
    encoder: SlicedEncoder,
    pairs: Sequence[tuple[str, str]],
    room: int | None,
    direction: Direction,
    frame: Sequence[FramePart],
    type_stride: int,
    count_unknown: Callable[[Sequence[int]], int],
    check: Check,
) -> Iterator[TokenizedText]:
    """Ids of every pair, in order, and how many were cut off; a text of many pairs is read once.

    Args:
        encoder: Of the texts.
        pairs: The pairs.
        room: Most tokens of a pair, special tokens not counted; the longer text is cut first.
        direction: Which side of a text is cut.
        frame: Of ``pair_frame``.
        type_stride: Added to an id for each step of its token type.
        count_unknown: Counts ids of what the vocabulary does not have.
        check: Called between steps.
    """
    once = list(dict.fromkeys(text for pair in pairs for text in pair))
    found = zip(once, encoder.encode(once, room, direction, check=check), strict=True)
    known: dict[str, Encoded] = {}
    for pair in pairs:
        check()
        while not (pair[0] in known and pair[1] in known):
            known.update([next(found)])
        (one, whole, _), (two, other, _) = known[pair[0]], known[pair[1]]
        first, second, surplus = as_list(one), as_list(two), 0
        if room is not None and whole + other > room:
            surplus = whole + other - room
            left, right = _shares(whole, other, room)
            first, second = cut(first, left, direction), cut(second, right, direction)
        ids: list[int] = []
        for place, special, kind in frame:
            part = [special] if place is None else (first, second)[place]
            step = type_stride * kind
            ids += [number + step for number in part] if step else part
        yield TokenizedText(ids, surplus, (), count_unknown(first) + count_unknown(second))


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of two texts that fit ``room`` together, the longer one cut first [tokens].

    Where both are longer than half of the room, the second gets the odd token, or the longer one:
    as ``longest_first`` of Hugging Face's tokenizers.
    """
    short, long = sorted((first, second))
    short, long = (short, room - short) if short <= room // 2 else (room // 2, room - room // 2)
    return (short, long) if first <= second else (long, short)
