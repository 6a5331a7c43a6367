"""What is added to the scores of softmax attention by relative position: ALiBi, learned buckets.

Shapes: H heads, Q queries, K keys.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.softmax import Size
from osa.model.functional.varlen import count_up


class ScoreBias(nn.Module):
    """Bias of the scores by the distance of query and key, the same in every layer."""

    def __init__(self, config: EncoderConfig) -> None:
        """Create the table of the buckets."""
        super().__init__()
        self.num_heads, self.max_distance = config.num_heads, config.position_bucket_distance
        self.alibi = config.positions == "alibi"
        buckets = config.position_buckets
        table = torch.zeros(buckets, config.num_heads)
        self.table = nn.Parameter(table) if buckets else None

    def forward(self, distances: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape H"]:
        """Bias of every head for keys at these distances from their query."""
        if self.table is None:
            slopes = torch.tensor(alibi_slopes(self.num_heads), device=distances.device)
            return distances.abs()[..., None] * -slopes
        return self.table[bucket_of(distances, len(self.table), self.max_distance)]


class PassBias:
    """A ``ScoreBias`` on a device, with what it gave: for the layers of one pass."""

    def __init__(self, bias: ScoreBias, device: torch.device) -> None:
        """Compute nothing yet."""
        self._bias, self._device = bias, device
        self._squares: dict[int, Tensor] = {}  # the last one: as large as a sequence's scores
        self._line: Tensor | None = None

    def __call__(self, start: int, stop: Size, length: Size) -> Float[Tensor, "H Q K"]:
        """For queries ``start`` to ``stop`` and keys 0 to ``length``."""
        # Parts of long rows would take too much memory; in traces sizes are symbols.
        if torch.compiler.is_compiling() or (start, stop) != (0, length):
            return self._part(start, stop, length)
        found = self._squares.get(int(length))
        if found is None:
            self._squares.clear()
            found = self._squares[int(length)] = self._part(start, stop, length)
        return found

    def _part(self, start: int, stop: Size, length: Size) -> Tensor:
        places = count_up(length, self._device)
        distances = places[None, :] - places[start:stop, None]
        bias: Tensor = self._bias(distances).permute(2, 0, 1).contiguous()
        return bias

    def by_distance(self, reach: int) -> Float[Tensor, "H R2"]:
        """For keys at -(reach - 1) to reach - 1 from their query."""
        if self._line is None or self._line.shape[1] != 2 * reach - 1:
            self._line = self._bias(torch.arange(1 - reach, reach, device=self._device)).T
        return self._line


def needs_bias(config: EncoderConfig) -> bool:
    """Whether the scores have a bias."""
    return config.positions == "alibi" or config.position_buckets > 0


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head (arXiv:2108.12409): 2^(-8 i / n) for n heads, a power of two.

    Other numbers take those of the power below, then every second one of the power above.
    """
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (place + 1) / power) for place in range(power)]
    further = [2.0 ** (-4.0 * (place + 1) / power) for place in range(0, 2 * power, 2)]
    return slopes + further[: heads - power]


def bucket_of(
    distances: Int[Tensor, "*shape"], buckets: int, max_distance: int
) -> Int[Tensor, "*shape"]:
    """Bucket of each relative position (arXiv:1910.10683, both directions).

    Half of the buckets are for keys behind the query, half for those ahead. In each half, half are
    for single distances, the others widen logarithmically up to ``max_distance``.
    """
    half = buckets // 2
    exact = half // 2
    apart = distances.abs()
    growth = torch.log(apart.float().clamp(min=1) / exact) / math.log(max_distance / exact)
    wide = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(apart < exact, apart, wide) + (distances > 0).long() * half
