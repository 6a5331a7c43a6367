"""Chunks of whole tiles of sums: a sequence has the same bits in any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from osa.model.kernels.native_stream import SUM_TILE


def in_tiles(source: Iterator[np.ndarray], chunk: Callable[[], int]) -> Iterator[np.ndarray]:
    """Pieces of any size as chunks of whole tiles, but for the last one."""
    held: list[np.ndarray] = []
    size, wanted = 0, whole_tiles(chunk())
    for piece in source:
        held.append(piece)
        size += len(piece)
        if size < wanted:
            continue
        joined = np.concatenate(held)
        while len(joined) >= wanted:
            yield joined[:wanted]
            joined, wanted = joined[wanted:], whole_tiles(chunk())
        held, size = [joined.copy()], len(joined)
    if size:
        yield np.concatenate(held)


def whole_tiles(tokens: int) -> int:
    """The tokens of a chunk of about so many [tokens]."""
    return max(1, tokens // SUM_TILE) * SUM_TILE
