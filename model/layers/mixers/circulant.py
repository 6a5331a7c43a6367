"""Circulant Attention (arXiv:2512.21542) in its own form: tokens on a circle, or on a grid.

A grid goes round in both directions, as the paper has it for patches of images. Sums by offset come
from the same zero-padded transforms as those of ``toeplitz``; offsets that are one on a circle of a
sequence's own length are then added up. A grid whose rows have C tokens is read as rows of 2 C,
half of them zero: an offset between rows and one between columns are then one offset between
tokens. A last row that is not full ends in empty patches, which count as pairs.

Shapes: S sequences, L width of a rectangle, H heads, d head width, R offsets; G rows of a grid.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.functional.offsets import correlate, signed_offsets, weigh_offsets
from osa.model.layers.mixers.toeplitz import ToeplitzMixer


def periodic_weights(
    sums: Float[Tensor, "S H C R"], count: Float[Tensor, "#S 1 1"], pairs: float
) -> Float[Tensor, "S H C R"]:
    """Softmax over C times N offsets of sums / pairs where N follows N - 1 as 0 does.

    Offsets s and s - N are one: each has the weight, which the other's sums are part of.

    Args:
        sums: By offset between rows, for each of C offsets that are periodic already.
        count: Rows of each sequence, N.
        pairs: What sums of a row are divided by, beside N.
    """
    width = sums.shape[-1] // 2
    offsets = signed_offsets(width, sums.device)
    size = count.to(torch.int64)[..., None]
    other = torch.where(offsets < 0, offsets + size, offsets - size)
    there = (other.abs() < size) & (other.abs() < width)
    place = (other + width).clamp(0, 2 * width - 1).expand(sums.shape)
    folded = sums + sums.gather(-1, place).masked_fill(~there, 0.0)
    scores = folded / (count[..., None] * pairs)
    first = scores.masked_fill((offsets < 0) | (offsets >= size), -torch.inf)
    largest = first.amax((-2, -1), keepdim=True)
    # every offset but 0 is there twice, as s and as s - N: the sum is over one of each
    raised = (scores - largest).masked_fill(offsets.abs() >= size, -torch.inf).exp()
    total = raised.masked_fill(offsets < 0, 0.0).sum((-2, -1), keepdim=True)
    return raised / total


class CirculantMixer(ToeplitzMixer):
    """On a circle, or a grid with ``grid_width``; turning it round turns the result likewise."""

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections.

        Args:
            config: Of the encoder.
            layer: Index of the block.
        """
        super().__init__(config, layer)
        self.columns = config.grid_width

    def attend(
        self, states: tuple[Float[Tensor, "S H L D"], ...], count: Float[Tensor, "#S 1 1"]
    ) -> Float[Tensor, "S H L D"]:
        """Likewise, on the circle or the grid."""
        query, key, value = states
        scale = math.sqrt(self.head_dim)
        if not self.columns:
            weights = periodic_weights(correlate(query, key)[:, :, None], count, scale)
            return weigh_offsets(weights, value)
        columns, length = self.columns, value.shape[2]
        grid = grid_rows(length, columns)
        place = torch.arange(grid * 2 * columns, device=value.device)
        row, column = place // (2 * columns), place % (2 * columns)
        token = row * columns + column
        source = torch.where((column < columns) & (token < length), token, length)
        query, key, value = (F.pad(state, (0, 0, 0, 1)).index_select(2, source) for state in states)
        # rows -G to G - 1 of columns -C to C - 1, one after another
        sums = correlate(query, key).roll(columns, -1)
        down = torch.arange(2 * grid, device=value.device) * (2 * columns)
        first = down + torch.arange(columns, device=value.device)[:, None]  # [C, 2 G]
        around = sums[..., first] + sums[..., first + columns]
        rows = ((count + (columns - 1)) / columns).floor()
        weights = periodic_weights(around, rows, columns * scale)
        offset = torch.arange(4 * columns * grid, device=value.device)
        twice = weights[:, :, offset % columns, offset // (2 * columns)].roll(-columns, -1)
        mixed = weigh_offsets(twice[:, :, None], value)
        token = torch.arange(length, device=value.device)
        return mixed.index_select(2, token // columns * (2 * columns) + token % columns)


def grid_rows(length: int | torch.SymInt, columns: int) -> Any:
    """Rows of a grid that holds so many tokens; two more at most where the length is a symbol."""
    if torch.compiler.is_compiling() or not isinstance(length, int):
        return length // columns + 2  # never 1, which graphs would take for granted
    return -(-length // columns)
