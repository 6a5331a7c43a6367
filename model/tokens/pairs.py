"""Pairs of texts as one sequence: where each text stands, and how a pair is cut."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from tokenizers import Tokenizer

Direction = Literal["left", "right"]


def pair_frame(tokenizer: Tokenizer) -> list[tuple[int | None, int, int]]:
    """What a pair consists of: which text (0, 1) or None, the id of a special token, the type.

    Ids are put together here: the library itself processes every piece that truncation cut off
    one text with every piece of the other.
    """
    one = tokenizer.encode("a", add_special_tokens=False)
    one.truncate(1)
    whole = tokenizer.post_process(one, one, True)
    frame: list[tuple[int | None, int, int]] = []
    for special, text, number, kind in zip(
        whole.special_tokens_mask, whole.sequence_ids, whole.ids, whole.type_ids, strict=True
    ):  # the library names the second text alone
        frame.append((None if special else int(text == 1), number, kind))
    return frame


def encode_once(
    library: Tokenizer, texts: Collection[str], room: int | None, direction: Direction
) -> dict[str, tuple[list[int], int]]:
    """Ids of each text, at most ``room``, and how many it has: a query is in many pairs.

    Args:
        library: The tokenizer.
        texts: Each once.
        room: Most ids of a text; None for all.
        direction: Which side is cut.
    """
    encodings = library.encode_batch_fast(list(texts), add_special_tokens=False)
    found = {}
    for text, encoding in zip(texts, encodings, strict=True):
        ids = encoding.ids
        found[text] = (ids if room is None else cut_ids(ids, room, direction), len(ids))
    return found


def cut_ids(ids: list[int], length: int, direction: Direction) -> list[int]:
    """The first ``length`` ids, or the last ones where the left side is cut."""
    if len(ids) <= length:
        return ids
    return ids[:length] if direction == "right" else ids[len(ids) - length :]


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of two texts that fit ``room`` together, the longer one cut first [tokens].

    Where both are longer than half of the room, the second gets the odd token, or the longer one:
    as ``longest_first`` of Hugging Face's tokenizers.
    """
    short, long = sorted((first, second))
    short, long = (short, room - short) if short <= room // 2 else (room // 2, room - room // 2)
    return (short, long) if first <= second else (long, short)
