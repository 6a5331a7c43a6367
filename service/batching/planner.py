"""The plan of the next batch: a pure function."""

from __future__ import annotations

from collections.abc import Iterable

LOOK_AHEAD = 64
"""How many items that do not fit a batch are passed over in search of ones that do."""


def plan_batch(lengths: Iterable[int], max_tokens: int, max_items: int) -> list[int]:
    """Choose the next batch; pure, and lazy: reads no more of ``lengths`` than it needs.

    Args:
        lengths: Tokens of each waiting item, most urgent first.
        max_tokens: Token budget; an item beyond it is planned alone.
        max_items: Most items in a batch.

    Returns:
        Places of the chosen items, most urgent first; empty only where nothing waits.
    """
    chosen: list[int] = []
    tokens, passed_over = 0, 0
    for place, length in enumerate(lengths):
        if not chosen or tokens + length <= max_tokens:
            chosen.append(place)
            tokens += length
        else:
            passed_over += 1
        if len(chosen) == max_items or tokens >= max_tokens or passed_over == LOOK_AHEAD:
            break
    return chosen
