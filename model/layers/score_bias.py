"""What is added to the scores of softmax attention by relative position: ALiBi, learned buckets.

Shapes: H heads, Q queries, K keys.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.softmax import Bias


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

    def forward(
        self, start: int, stop: int, length: int, device: torch.device
    ) -> Float[Tensor, "H Q K"]:
        """Bias of queries ``start`` to ``stop`` and keys 0 to ``length``, on a device."""
        queries = torch.arange(start, stop, device=device)[:, None]
        distances = torch.arange(length, device=device)[None, :] - queries
        if self.table is None:
            slopes = torch.tensor(alibi_slopes(self.num_heads), device=device)
            return -slopes[:, None, None] * distances.abs()
        chosen = self.table[bucket_of(distances, len(self.table), self.max_distance)]
        return chosen.permute(2, 0, 1).contiguous()


def bind(bias: ScoreBias, device: torch.device) -> Bias:
    """``bias`` on a device, with what was computed before: for the layers of one pass."""
    known: dict[tuple[int, int, int], Tensor] = {}

    def of(start: int, stop: int, length: int) -> Tensor:
        whole = (start, stop) == (0, length)  # parts of long rows would take too much memory
        found = known.get((start, stop, length))
        if found is None:
            found = bias(start, stop, length, device)
            if whole:
                known[start, stop, length] = found
        return found

    return of


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


def bucket_of(distances: Int[Tensor, "Q K"], buckets: int, max_distance: int) -> Int[Tensor, "Q K"]:
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
