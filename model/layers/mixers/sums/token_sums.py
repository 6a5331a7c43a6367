"""What a token mixer sums over the tokens of a sequence, so that it can be taken in chunks.

A mixer whose result at a token depends on the other tokens through sums alone can mix a sequence
of any length in the memory of one chunk, or over several processes that each have a part. It
declares them as a ``TokenSums``: ``add`` every chunk, ``exchange`` with other processes, ``close``,
``apply`` to every chunk. A mixer that needs several rounds of sums (means before products) returns
False from ``close`` until the last one is done.

Shapes: n tokens of a chunk, H heads, d head width; ``halo`` h.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Exchange = Callable[[Tensor, Literal["sum", "max"]], None]
"""Replaces a tensor by its sum, or largest values, over all processes, in place."""


def alone(tensor: Tensor, how: Literal["sum", "max"]) -> None:
    """The ``Exchange`` of one process."""


class ChunkStates(NamedTuple):
    """Queries, keys and values of some tokens in order; the last stride of each is 1.

    Attributes:
        query: Queries.
        key: Keys.
        value: Values.
        before: Values of up to h tokens before them, fewer at the sequence's start.
        after: Values of up to h tokens after them, fewer at its end.
        side: What they say of their own mixing, float32, where the mixer has a layer for it.
    """

    query: Float[Tensor, "n H d"]
    key: Float[Tensor, "n H d"]
    value: Float[Tensor, "n H d"]
    before: Float[Tensor, "h H d"] | None = None
    after: Float[Tensor, "h H d"] | None = None
    side: Float[Tensor, "n K"] | None = None


class TokenSums(ABC):
    """The sums of one layer over one sequence.

    Attributes:
        halo: Tokens on either side of a chunk whose values ``apply`` reads.
    """

    halo: int = 0

    @abstractmethod
    def add(self, chunk: ChunkStates) -> None:
        """Add the tokens of the next chunk; all but the last are whole tiles of sums."""

    @abstractmethod
    def exchange(self, exchange: Exchange) -> None:
        """Add up what several processes have; called once a round, after the last chunk."""

    @abstractmethod
    def close(self, count: int) -> bool:
        """End a round: whether ``apply`` may follow; otherwise all chunks are added once more.

        Args:
            count: Tokens of the whole sequence.
        """

    @abstractmethod
    def apply(self, chunk: ChunkStates) -> Float[Tensor, "n H d"]:
        """The mixed heads of a chunk's tokens."""

    @property
    @abstractmethod
    def exchanged(self) -> int:
        """What ``exchange`` sends a round, whatever the length [bytes]."""


def as_floats(chunk: ChunkStates, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [H, n, d] in another type."""
    query, key, value = (
        part.transpose(0, 1).to(dtype) for part in (chunk.query, chunk.key, chunk.value)
    )
    return query, key, value
