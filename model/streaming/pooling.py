"""Pooling of final states that come in chunks: of a whole sequence, and of spans of its tokens.

Sums are in double, over tiles at fixed tokens: the same bits whatever the chunks.

Shapes: n tokens of a chunk, D hidden, m spans, V token ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.config import Pooling
from osa.model.errors import InputError
from osa.model.kernels import native_pool
from osa.model.layers.heads import SparseHead
from osa.model.layers.mixers.sums.token_sums import Exchange

BLOCK = 128
"""Rows that ``native_pool`` sums before it adds them to those before."""
TILE = 256
"""Tokens of a running sum; a divisor of every chunk but the last [tokens]."""


class StreamedPool:
    """One state a sequence; means have the bits of ``native_pool`` where that pools."""

    def __init__(self, how: Pooling, width: int, device: torch.device) -> None:
        """Pool no tokens yet."""
        self._how: Pooling = how
        self._sum = torch.zeros(width, dtype=torch.float64, device=device)

    def add(self, hidden: Float[Tensor, "n D"], first: int) -> None:
        """Pool the tokens from ``first`` on too; all chunks but the last are whole tiles."""
        if not len(hidden):
            return
        if self._how == "cls":
            self._sum = hidden[0].double() if first == 0 else self._sum
        elif self._how == "last":
            self._sum = hidden[-1].double()
        elif self._how == "mean" and native_pool.supports(hidden):
            for block in _block_sums(hidden):
                self._sum = (self._sum.float() + block).double()
        else:
            for start in range(0, len(hidden), TILE):
                tile = hidden[start : start + TILE].double()
                if self._how == "weighted":
                    places = torch.arange(len(tile), device=tile.device) + (first + start + 1)
                    tile = tile * places[:, None].double()
                self._sum = self._sum + tile.sum(0)

    def exchange(self, exchange: Exchange, last: bool) -> None:
        """Add up what several processes have pooled; one of them has the ``last`` token."""
        if self._how == "last" and not last:
            self._sum.zero_()
        exchange(self._sum, "sum")

    def close(self, count: int) -> Float[Tensor, "1 D"]:
        """The pooled state of a sequence of ``count`` tokens, float32."""
        if self._how == "weighted":
            return (self._sum / (count * (count + 1) / 2)).float()[None]
        return self._sum.float()[None] / (count if self._how == "mean" else 1)


def _block_sums(hidden: Float[Tensor, "n D"]) -> Float[Tensor, "blocks D"]:
    """Sums of every ``BLOCK`` rows, which ``native_pool`` makes means of: a power of two."""
    missing = -len(hidden) % BLOCK
    rows = F.pad(hidden, (0, 0, 0, missing)) if missing else hidden
    offsets = torch.arange(0, len(rows) + 1, BLOCK, dtype=torch.int32)
    return native_pool.pool_packed(rows, "mean", offsets) * BLOCK


class SparsePool:
    """The largest weights over the tokens, of a sparse head; as ``StreamedPool``."""

    def __init__(self, head: SparseHead) -> None:
        """Pool no tokens yet."""
        self._head = head
        self._most: Tensor | None = None

    def add(self, hidden: Float[Tensor, "n D"], first: int) -> None:
        """Take the tokens of another chunk."""
        found: Tensor = self._head(hidden[None], None, None)
        self._most = found if self._most is None else torch.maximum(self._most, found)

    def exchange(self, exchange: Exchange, last: bool) -> None:
        """The largest of several processes."""
        if self._most is not None:
            exchange(self._most, "max")

    def close(self, count: int) -> Float[Tensor, "1 V"]:
        """The weights."""
        if self._most is None:
            raise InputError("a process has no part of the sequence")
        return self._most


class StreamedSpans:
    """One state a span; each is known once its last token has come.

    Means are differences of running sums at the ends of a span, so that the time of a span does not
    grow with its length.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], how: Pooling, width: int) -> None:
        """Pool these ranges [start, stop) of tokens, of at least one each; they may overlap.

        Args:
            spans: In any order.
            how: As the model pools.
            width: D.
        """
        self._how: Pooling = how
        self._coming = deque(
            sorted((start, stop, place) for place, (start, stop) in enumerate(spans))
        )
        self._open: list[tuple[int, int, int, Tensor]] = []  # a heap by stop and place
        kinds = 2 if how == "weighted" else 1
        self._running = torch.zeros(kinds, width, dtype=torch.float64)

    def add(
        self, hidden: Float[Tensor, "n D"], first: int
    ) -> list[tuple[int, Float[Tensor, " D"]]]:
        """Pool the tokens from ``first`` on too; places and states of the spans that end there."""
        done: list[tuple[int, Tensor]] = []
        if self._coming or self._open:
            rows = hidden.to("cpu", torch.float64)
            for start in range(0, len(rows), TILE):
                self._add_tile(rows[start : start + TILE], first + start, done)
        return done

    def _add_tile(self, tile: Tensor, first: int, done: list[tuple[int, Tensor]]) -> None:
        last = first + len(tile)
        sums = self._running[:, None]
        if self._how in ("mean", "weighted"):  # sums before each of the tile's tokens, and behind
            kinds = tile[None]
            if self._how == "weighted":
                places = torch.arange(first + 1, last + 1, dtype=torch.float64)[:, None]
                kinds = torch.stack([tile, tile * places])
            sums = torch.cat([sums, sums + kinds.cumsum(1)], dim=1)
            self._running = sums[:, -1].clone()
        while self._coming and self._coming[0][0] < last:
            start, stop, place = self._coming.popleft()
            at = (
                tile[start - first]
                if self._how == "cls"
                else sums[:, min(start - first, sums.shape[1] - 1)]
            )
            heappush(self._open, (stop, place, start, at.clone()))
        while self._open and self._open[0][0] <= last:
            stop, place, start, begun = heappop(self._open)
            if self._how == "cls":
                state = begun
            elif self._how == "last":
                state = tile[stop - 1 - first]
            else:
                state = _mean(sums[:, stop - first] - begun, start, stop)
            done.append((place, state.float()))


def _mean(sums: Float[Tensor, "kinds D"], start: int, stop: int) -> Float[Tensor, " D"]:
    """Mean of the tokens of a span from their sum, or weighted from that of i x_i too, i from 1."""
    count = stop - start
    if len(sums) == 1:
        return sums[0] / count
    return (sums[1] - start * sums[0]) / (count * (count + 1) / 2)
