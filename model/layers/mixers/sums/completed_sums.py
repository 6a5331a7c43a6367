"""Sums of completed OSA over tokens: those of OSA, and the pooled values.

Sums of a tile are float32, those over tiles double, in their order: the same bits whatever the
chunks. Neighbours of a chunk come from the chunks beside it.

Shapes: n tokens of a chunk, H heads, d head width, K numbers that a token says of its mixing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.kernels.native_completion import Weights
from osa.model.kernels.native_stream import SUM_TILE
from osa.model.layers.mixers.sums.token_sums import ChunkStates, Exchange, TokenSums


class CompletedSums(TokenSums):
    """The terms of ``osa.model.functional.completion`` around the sums of OSA."""

    def __init__(self, inner: TokenSums, by: Weights, head_dim: int) -> None:
        """Begin with no tokens.

        Args:
            inner: Sums of OSA.
            by: Weights of the terms.
            head_dim: Width of a head.
        """
        self._inner, self._by = inner, by
        self.halo = 0 if by.taps is None else by.taps.shape[1] // 2
        heads, device = len(by.identity), by.identity.device
        least = torch.finfo(torch.float64).min
        self._largest = torch.full((heads,), least, dtype=torch.float64, device=device)
        self._total = torch.zeros(heads, dtype=torch.float64, device=device)
        self._values = torch.zeros(heads, head_dim, dtype=torch.float64, device=device)
        self._pooled = by.pool is None  # nothing is left to be summed up

    def add(self, chunk: ChunkStates) -> None:
        """See ``TokenSums``."""
        self._inner.add(chunk)
        if self._pooled:
            return
        logits = _sides(chunk)[:, : len(self._largest)]
        for start in range(0, len(logits), SUM_TILE):
            tile = logits[start : start + SUM_TILE]
            value = chunk.value[start : start + SUM_TILE].float()
            largest = tile.amax(0)
            weights = (tile - largest).exp()
            sums = (weights[..., None] * value).sum(0)
            self._join(largest.double(), weights.sum(0).double(), sums.double())

    def _join(self, largest: Tensor, total: Tensor, values: Tensor) -> None:
        top = torch.maximum(self._largest, largest)
        own, other = (self._largest - top).exp(), (largest - top).exp()
        self._total = own * self._total + other * total
        self._values = own[:, None] * self._values + other[:, None] * values
        self._largest = top

    def exchange(self, exchange: Exchange) -> None:
        """See ``TokenSums``."""
        self._inner.exchange(exchange)
        if self._pooled:
            return
        top = self._largest.clone()
        exchange(top, "max")
        self._join(top, torch.zeros_like(self._total), torch.zeros_like(self._values))
        exchange(self._total, "sum")
        exchange(self._values, "sum")

    def close(self, count: int) -> bool:
        """See ``TokenSums``."""
        self._pooled = True
        return self._inner.close(count)

    def apply(self, chunk: ChunkStates) -> Float[Tensor, "n H d"]:
        """See ``TokenSums``."""
        mixed = self._inner.apply(chunk)
        by, value, heads = self._by, chunk.value.float(), len(self._largest)
        identity, change, share = by.identity, by.mixed, by.pool
        if by.gated:
            gates = _sides(chunk).split(heads, dim=1)[int(share is not None) :]
            identity, change = identity + gates[0], change * (1.0 + gates[1])
            share = None if share is None else share * (1.0 + gates[2])
        total = (identity - change)[..., None] * value
        total.addcmul_(change[..., None], mixed.float())
        if share is not None:
            total.addcmul_(share[..., None], (self._values / self._total[:, None]).float())
        if by.taps is not None:
            self._add_neighbours(total, chunk, by.taps)
        return total.to(mixed.dtype)

    def _add_neighbours(
        self, total: Float[Tensor, "n H d"], chunk: ChunkStates, taps: Float[Tensor, "H R2"]
    ) -> None:
        """Add the values beside each token, weighted."""
        count, reach = len(chunk.value), self.halo
        row = chunk.value.new_zeros(reach, *chunk.value.shape[1:])
        before = row if chunk.before is None else torch.cat([row, chunk.before])[-reach:]
        after = row if chunk.after is None else torch.cat([chunk.after, row])[:reach]
        around = torch.cat([before, chunk.value, after]).float()
        for place, offset in enumerate((*range(-reach, 0), *range(1, reach + 1))):
            part = around[reach - offset : reach - offset + count]
            total.addcmul_(taps[:, place, None], part)

    @property
    def exchanged(self) -> int:
        """See ``TokenSums``."""
        own = self._largest.nbytes + self._total.nbytes + self._values.nbytes
        return self._inner.exchanged + (own if self._by.pool is not None else 0)


def _sides(chunk: ChunkStates) -> Float[Tensor, "n K"]:
    assert chunk.side is not None  # mixers with gates or a pool have a layer for it
    return chunk.side
