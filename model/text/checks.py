"""What texts and ids must be, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from osa.model.errors import InputError


def id_out_of_range(ids: Sequence[int], vocab_size: int) -> int | None:
    """An id that is not in 0 to ``vocab_size - 1``; None where all are, or there are none."""
    low, high = min(ids, default=0), max(ids, default=0)
    if low < 0:
        return low
    return high if high >= vocab_size else None


def check_unicode(texts: Iterable[str]) -> None:
    """Refuse texts that are not valid Unicode; one that comes again is looked at once.

    Raises:
        InputError: The index of the text that has a lone surrogate.
    """
    seen: set[str] = set()
    for index, text in enumerate(texts):
        if text in seen:
            continue
        seen.add(text)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"text {index} holds a lone surrogate, which is not valid Unicode"
            ) from None
