r"""What an orthogonal mixing lacks, in linear time: a mean, neighbours, and weights by token.

Of one head, with w = softmax_j(u . x_j) and the orthogonal matrix exp(S) of ``attention``,

    Y_i = (a_i - s_i) V_i + s_i (exp(S) V)_i + m_i sum_j w_j V_j + sum_{0 < |o| <= R} c_o V_{i-o}.

All singular values of exp(S) are 1, so it cannot average: |exp(S) - 1 1^T / N|^2 >= N - 1. And to
first order in S, whose entries are O(1/N), no token gets more than O(1/N) of a single neighbour.
Trained softmax attention does both (decision 39). Every term is one sum over the tokens, or local.

Shapes: B batch, H heads, N tokens, D head width, R reach.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.functional.varlen import count_up, segment_ids


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

    Padding must be at the ends of a row: neighbours are cells side by side.

    Args:
        value: Values; zero where ``mask`` is False.
        taps: Weights of a head at the offsets -R to -1 and 1 to R.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
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
