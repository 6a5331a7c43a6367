"""How a sequence is taken chunk by chunk, and what each step has done.

Shapes: D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from osa.model.layers.mixers.sums.token_sums import Exchange, alone

CHUNK = 2048
"""Tokens of a chunk where the caller has no wish of its own [tokens]."""


@dataclass(frozen=True)
class StreamOptions:
    """How a sequence is taken.

    Attributes:
        chunk: Asked before every chunk for its tokens; rounded to whole tiles of sums.
        directory: Of files between layers; None for the system's temporary directory.
        keep_states: Write queries, keys and values between layers too, instead of making them
            again: a fifth less work, for 2.5 to 4 times the disk.
        wake: Where given, a step never waits for the disk: one that would says so
            (``Progress.waits``), and this is called on another thread once it can go on.
        exchange: With other processes that have other parts of the sequence.
        first: Place of the first token of this process's part.
        count: Tokens of all parts, where they are known; None for those that come.
        part: Number of this process's part.
        parts: How many there are.
    """

    chunk: Callable[[], int] = lambda: CHUNK
    directory: Path | None = None
    keep_states: bool = True
    wake: Callable[[], None] | None = None
    exchange: Exchange = alone
    first: int = 0
    count: int | None = None
    part: int = 0
    parts: int = 1


class Progress(NamedTuple):
    """What a step has done.

    Attributes:
        tokens: Tokens of the step's chunk.
        done: Chunks' tokens over all passes so far.
        passes: Passes in all; a text that needs more rounds of sums has more.
        spans: Places and pooled states of the spans that ended in this chunk.
        waits: None, or the step has done nothing: it must be taken again once this returns False,
            for the disk is behind.
    """

    tokens: int
    done: int
    passes: int
    spans: Sequence[tuple[int, Float[Tensor, " D"]]] = ()
    waits: Callable[[], bool] | None = None


class Streamed(NamedTuple):
    """What a sequence has become.

    Attributes:
        pooled: Its state, pooled as the model pools; weights of ids of a sparse head.
        length: Its tokens.
    """

    pooled: Float[Tensor, "1 D"]
    length: int
