"""A short depthwise convolution in front of a mixer (``EncoderConfig.local_conv``).

Mixers that see a sequence through sums over all of it tell neighbours apart only by position. A
few taps a channel give every token its neighbourhood first, as in 2406.08128 and in most
state-space models; here they reach to both sides, and start at zero: the block is then the same as
without them.

Shapes: B batch, N tokens, D hidden, k taps.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import align, take
from osa.model.layers.mixers.base import TokenContext
from osa.model.layers.positions import token_positions


class LocalConv(nn.Module):
    """X + sum over s of w_s X shifted by s, within each sequence; zero beyond its ends.

    Of k taps, k // 2 see tokens before, then the token itself, the others tokens after it.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """Create the taps, all zero."""
        super().__init__()
        self.taps = nn.Parameter(torch.zeros(config.local_conv, config.hidden_size))

    def forward(
        self, hidden: Float[Tensor, "B N D"], context: TokenContext
    ) -> Float[Tensor, "B N D"]:
        """Convolve every sequence of a batch.

        Args:
            hidden: States of every token.
            context: Sequences of the tokens.
        """
        if context.mask is not None:
            aligned = align(context.mask)
            moved = self._convolve(take(hidden, aligned.order, 1), self._places(hidden, context))
            return take(moved, aligned.back, 1)
        return self._convolve(hidden, self._places(hidden, context))

    def _places(self, hidden: Tensor, context: TokenContext) -> Tensor:
        """Place of each token in its sequence [B, N]; -1 where it is padding, moved to the end."""
        length, device = hidden.shape[1], hidden.device
        if context.mask is None:
            return token_positions(length, None, context.cu_seqlens, device)
        places = torch.arange(length, device=device)
        return torch.where(align(context.mask).mask, places, -1)

    def _convolve(self, hidden: Tensor, places: Tensor) -> Tensor:
        total = hidden
        before = len(self.taps) // 2
        for tap, weight in enumerate(self.taps):
            total = total + _shifted(hidden, places, tap - before) * weight
        return total


def _shifted(hidden: Tensor, places: Tensor, offset: int) -> Tensor:
    """States of the tokens ``offset`` further on in the same sequence, zero where there is none.

    Two tokens are of one sequence where their places differ by as much as they lie apart.
    """
    batch, length, width = hidden.shape
    size = abs(offset)
    gap = hidden.new_zeros(batch, size, width)
    none = places.new_full((places.shape[0], size), -2)
    if offset >= 0:
        moved = torch.cat([hidden, gap], 1)[:, size:]
        there = torch.cat([places, none], 1)[:, size:]
    else:
        moved = torch.cat([gap, hidden], 1)[:, :length]
        there = torch.cat([none, places], 1)[:, :length]
    same: Bool[Tensor, "B N"] = (there - offset == places) & (there >= 0) & (places >= 0)
    return moved * same[..., None]
