"""Higher-order Linear Attention (arXiv:2510.27258) without a causal mask.

The paper's mixers are causal and stream prefix moments; an encoder has the whole sequence, so that
each prefix sum is a sum over all tokens and the causal corrections fall away. Queries and keys are
RMS-normalised as ``qk_norm`` says. Every moment is divided by the number of tokens, and the head's
result is RMS-normalised: products of two moments have no scale of their own. There is no ratio
normaliser, which could vanish, as the kernel is not positive.

Shapes: S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.functional.alignment import zero_padding
from osa.model.functional.tiling import join_parts, take_part, token_parts
from osa.model.layers.mixers.rectangle import RectangleMixer, count_tokens, normalize_heads

Moments = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Two sums over tokens of products [S, H, d, d] of queries, keys and values, zero where padded."""


def second_order(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """K^T K and Q^T V, of Q (K^T K / N) (Q^T V / N): the symmetric form, A A^T V with A = Q K^T."""
    return key.transpose(-1, -2) @ key, query.transpose(-1, -2) @ value


def asymmetric(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """K^T Q and K^T V, of Q (K^T Q / N) (K^T V / N): A A V with A = Q K^T."""
    turned = key.transpose(-1, -2)
    return turned @ query, turned @ value


def mix_moments(
    states: tuple[Float[Tensor, "S H L D"], ...], mask: Bool[Tensor, "S L"] | None, moments: Moments
) -> Float[Tensor, "S H L D"]:
    """Q M_1 M_2 / N^2 with both moments, each head normalised.

    Args:
        states: Q, K and V.
        mask: True at real tokens; None for all.
        moments: Which.
    """
    parts, count = token_parts(states[0]), count_tokens(states[0], mask)
    found = []
    for part in parts:
        own = None if mask is None else mask[:, part]
        query, key, value = take_part(states, part)
        found.append(moments(zero_padding(query, own), zero_padding(key, own), value))
    first, second = (functools.reduce(torch.add, sums) for sums in zip(*found, strict=True))
    product = (first / count) @ (second / count)
    return join_parts(
        lambda part: normalize_heads(take_part(states[:1], part)[0] @ product), parts, states[0]
    )


class Hla2Mixer(RectangleMixer):
    """``second_order``."""

    follows_order, copies_states = False, True
    unshared = "has been tried with queries and keys of their own alone"

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Of queries, keys and values."""
        return mix_moments(states, mask, second_order)


class AhlaMixer(RectangleMixer):
    """``asymmetric``."""

    follows_order, copies_states = False, True
    unshared = "has been tried with queries and keys of their own alone"

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Of queries, keys and values."""
        return mix_moments(states, mask, asymmetric)
