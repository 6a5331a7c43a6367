r"""What an orthogonal mixing lacks, in linear time: a mean, neighbours, and weights by token.

Of one head, with w = softmax_j(u . x_j) and the orthogonal matrix exp(S) of ``attention``,

    Y_i = (a_i - s_i) V_i + s_i (exp(S) V)_i + m_i sum_j w_j V_j + sum_{0 < |o| <= R} c_o V_{i-o}.

All singular values of exp(S) are 1, so it cannot average: |exp(S) - 1 1^T / N|^2 >= N - 1. And to
first order in S, whose entries are O(1/N), no token gets more than O(1/N) of a single neighbour.
Trained softmax attention does both (decision 39). Every term is one sum over the tokens, or local.

Shapes: B batch, H heads, N tokens, D head width, R reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.functional.alignment import align, take
from osa.model.functional.varlen import count_up, segment_ids


class Terms(NamedTuple):
    """Weights of one layer's terms.

    Attributes:
        identity: Of the values, a [H].
        mixed: Of what exp(S) changes, s [H].
        pool: Of the pooled values, m [H], or None.
        taps: Of the neighbours, c [H, 2 R], or None.
        gated: Whether tokens have gates.
    """

    identity: Tensor
    mixed: Tensor
    pool: Tensor | None
    taps: Tensor | None
    gated: bool

    @property
    def num_sides(self) -> int:
        """Numbers that a token gives a head: a logit for the pool, and its gates."""
        gates = (2 if self.pool is None else 3) if self.gated else 0
        return gates + (self.pool is not None)


def complete(
    mixed: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    side: Float[Tensor, "B N K"] | None,
    by: Terms,
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, " S1"] | None,
) -> Float[Tensor, "B H N D"]:
    """Complete a mixing; computed in float32 at least, given in the dtype of ``mixed``.

    Args:
        mixed: exp(S) V.
        value: Values V.
        side: What the tokens say of their own mixing, H numbers each of ``Terms.num_sides``: the
            logit, then what is added to a, and factors of s and m less 1.
        by: Weights of the terms.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
    dtype = mixed.dtype
    if dtype in (torch.bfloat16, torch.float16):
        mixed, value = mixed.float(), value.float()
    if mask is not None:
        value = value.masked_fill(~mask[:, None, :, None], 0.0)
    total = join(
        mixed,
        value,
        side,
        by,
        lambda logits: pool_values(value, logits, mask, cu_seqlens),
        lambda taps: add_neighbours(value, taps, mask, cu_seqlens),
    )
    return total.to(dtype)


def join(
    mixed: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    side: Float[Tensor, "B N K"] | None,
    by: Terms,
    pooled: Callable[[Tensor], Tensor],
    beside: Callable[[Tensor], Tensor],
) -> Float[Tensor, "B H N D"]:
    """The sum of all terms, in the dtype of ``mixed``.

    Args:
        mixed: exp(S) V, float32 at least.
        value: Values V.
        side: As for ``complete``.
        by: Weights of the terms.
        pooled: From logits [B, N, H] to pooled values [B, H, #N, D].
        beside: From the weights of neighbours [H, 2 R] to their weighted values [B, H, N, D].
    """
    heads = mixed.shape[1]
    sides: tuple[Tensor, ...] = () if side is None else side.to(mixed.dtype).split(heads, dim=-1)
    gates = sides[1:] if by.pool is not None else sides
    identity, change = _of_head(by.identity), _of_head(by.mixed)
    share = None if by.pool is None else _of_head(by.pool)
    if by.gated:
        identity = identity + _of_tokens(gates[0])
        change = change * (1.0 + _of_tokens(gates[1]))
        share = None if share is None else share * (1.0 + _of_tokens(gates[2]))
    total = (identity - change) * value + change * mixed
    if share is not None:
        total = total + share * pooled(sides[0])
    if by.taps is not None:
        total = total + beside(by.taps.to(value.dtype))
    return total


def _of_head(weights: Float[Tensor, " H"]) -> Float[Tensor, "1 H 1 1"]:
    return weights[None, :, None, None]


def _of_tokens(gate: Float[Tensor, "B N H"]) -> Float[Tensor, "B H N 1"]:
    return gate.transpose(1, 2)[..., None]


def pool_values(
    value: Float[Tensor, "B H N D"],
    logits: Float[Tensor, "B N H"],
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, " S1"] | None,
) -> Float[Tensor, "B H #N D"]:
    """The mean value of each sequence, weighted by the softmax of ``logits``, for every token.

    Args:
        value: Values.
        logits: Of every token, before the softmax over those of its sequence.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
    if cu_seqlens is not None:
        return _pool_packed(value[0], logits[0], cu_seqlens)[None]
    logits = logits.transpose(1, 2)
    if mask is not None:  # not -inf: rows without a token have no NaN
        logits = logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)
    weights = logits.softmax(-1)
    return weights[:, :, None] @ value


def _pool_packed(
    value: Float[Tensor, "H T D"], logits: Float[Tensor, "T H"], cu_seqlens: Int[Tensor, " S1"]
) -> Float[Tensor, "H T D"]:
    heads, total, width = value.shape
    count = cu_seqlens.shape[0] - 1
    owners = segment_ids(cu_seqlens, total)
    rows = owners[:, None].expand_as(logits)
    least = torch.finfo(logits.dtype).min
    largest = logits.new_full((count, heads), least).scatter_reduce(
        0, rows, logits.detach(), "amax"
    )
    weights = (logits - largest.index_select(0, owners)).exp()
    sums = logits.new_zeros(count, heads).scatter_add(0, rows, weights)
    weighted = (weights[..., None] * value.transpose(0, 1)).flatten(1)
    rows = owners[:, None].expand_as(weighted)
    pooled = weighted.new_zeros(count, heads * width).scatter_add(0, rows, weighted)
    means = pooled.view(count, heads, width) / sums[..., None]
    return means.index_select(0, owners).transpose(0, 1)


def add_neighbours(
    value: Float[Tensor, "B H N D"],
    taps: Float[Tensor, "H R2"],
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, " S1"] | None,
) -> Float[Tensor, "B H N D"]:
    """Values of the neighbours within each sequence, weighted by ``taps``.

    Neighbours are real tokens with no other between them, wherever padding lies.

    Args:
        value: Values; zero where ``mask`` is False.
        taps: Weights of a head at the offsets -R to -1 and 1 to R.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
    if mask is not None:
        aligned = align(mask)
        moved = add_neighbours(take(value, aligned.order, 2), taps, None, None)
        return take(moved, aligned.back, 2)
    length, reach = value.shape[2], taps.shape[1] // 2
    places = count_up(length, value.device)
    owners = None if cu_seqlens is None else segment_ids(cu_seqlens, length)
    total = torch.zeros_like(value)
    for place, offset in enumerate((*range(-reach, 0), *range(1, reach + 1))):
        source = places - offset
        inside = (source >= 0) & (source < length)
        source = source.clamp(min=0, max=length - 1)
        if owners is not None:
            inside = inside & (owners.index_select(0, source) == owners)
        weights = taps[:, place, None] * inside.to(taps.dtype)
        total = total + weights[None, :, :, None] * _shifted(value, source, offset)
    return total


def _shifted(value: Tensor, source: Tensor, offset: int) -> Tensor:
    """Values [B, H, N, D] of the tokens ``source`` [N], those before by ``offset``.

    By ``roll`` where gradients need its speed; at the ends it gives any others.
    """
    if torch.compiler.is_compiling():
        return value.index_select(2, source)
    return value.roll(offset, 2)
