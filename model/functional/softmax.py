"""Softmax attention on rectangles of sequences: with a bias of the scores, or within a window.

Shapes: S sequences, H heads, L cells a row, d head width.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.functional.varlen import count_up

BIAS_LENGTH, BIAS_ROWS = 1024, 256
"""Longer rows than the first take so many queries at a time, to bound the memory of a bias."""
Size = int | torch.SymInt
"""A number of tokens; a symbol in traces."""


@runtime_checkable
class Bias(Protocol):
    """What scores get added, by head and relative position."""

    def __call__(self, start: int, stop: Size, length: Size) -> Float[Tensor, "H Q L"]:
        """For queries ``start`` to ``stop`` and keys 0 to ``length``."""

    def by_distance(self, reach: int) -> Float[Tensor, "H R2"]:
        """For keys at -(reach - 1) to reach - 1 from their query."""


def attend(
    query: Float[Tensor, "S H L D"],
    key: Float[Tensor, "S H L D"],
    value: Float[Tensor, "S H L D"],
    mask: Bool[Tensor, "S L"] | None = None,
    bias: Bias | None = None,
    window: int | None = None,
) -> Float[Tensor, "S H L D"]:
    """softmax(Q K^T / sqrt(d) + bias) V within each row; queries of padding are meaningless.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: True at real tokens; None where nothing is padded.
        bias: Added to the scores.
        window: Largest distance of a key from its query; None for no limit. Memory and time are
            then linear in L.
    """
    length = query.shape[2]
    keys = None if mask is None else mask[:, None, None, :]
    if window is not None and (torch.compiler.is_compiling() or window < length - 1):
        if bias is None and not torch.compiler.is_compiling() and length > 4 * window:
            return _attend_blocks(query, key, value, mask, window)
        near = _near(length, window, query.device)
        keys = near if keys is None else keys & near
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
    if torch.compiler.is_compiling() or length <= BIAS_LENGTH:
        scores = _masked(bias(0, length, length)[None].to(query.dtype), keys)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
    parts = []
    for start in range(0, length, BIAS_ROWS):
        stop = min(start + BIAS_ROWS, length)
        allowed = keys if keys is None or keys.shape[2] == 1 else keys[:, :, start:stop]
        scores = _masked(bias(start, stop, length)[None].to(query.dtype), allowed)
        rows = query[:, :, start:stop]
        parts.append(F.scaled_dot_product_attention(rows, key, value, attn_mask=scores))
    return torch.cat(parts, dim=2)


def _masked(scores: Tensor, allowed: Tensor | None) -> Tensor:
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


def _near(length: Size, window: int, device: torch.device) -> Bool[Tensor, "L L"]:
    """True where two places are at most ``window`` apart."""
    places = count_up(length, device)
    return (places[:, None] - places[None, :]).abs() <= window


def _attend_blocks(
    query: Float[Tensor, "S H L D"],
    key: Float[Tensor, "S H L D"],
    value: Float[Tensor, "S H L D"],
    mask: Bool[Tensor, "S L"] | None,
    window: int,
) -> Float[Tensor, "S H L D"]:
    """Blocks of ``window`` queries, each beside itself and its two neighbours.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: True at real tokens, or None.
        window: Largest distance of a key.
    """
    sequences, heads, length, width = query.shape
    count = -(-length // window)
    missing = count * window - length

    def around(states: Tensor) -> Tensor:
        """Each block's keys [S * blocks, H, 3 window, d]."""
        wide = F.pad(states, (0, 0, window, window + missing))
        blocks = wide.unfold(2, 3 * window, window).permute(0, 2, 1, 4, 3)
        return blocks.reshape(sequences * count, heads, 3 * window, width)

    queries = F.pad(query, (0, 0, 0, missing)).view(sequences, heads, count, window, width)
    queries = queries.transpose(1, 2).flatten(0, 1)
    if mask is None:
        mask = query.new_ones(sequences, length, dtype=torch.bool)
    real = F.pad(mask, (window, window + missing)).unfold(1, 3 * window, window)
    places = torch.arange(3 * window, device=query.device)
    near = (places[None, :] - places[window : 2 * window, None]).abs() <= window
    allowed = real.flatten(0, 1)[:, None, None, :] & near
    mixed = F.scaled_dot_product_attention(queries, around(key), around(value), attn_mask=allowed)
    joined = mixed.view(sequences, count, heads, window, width).transpose(1, 2)
    return joined.flatten(2, 3)[:, :, :length]
