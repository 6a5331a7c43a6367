"""Token statistics self-attention of the Token Statistics Transformer (arXiv:2412.17810).

Each head is a subspace. Tokens are assigned to heads by how much of their (token-normalised) energy
lies there, and every head damps its directions by the energy that its tokens have in them. Nothing
compares two tokens, so that time and memory are linear in both N and D.

Shapes: S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import zero_padding
from osa.model.layers.mixers.rectangle import RectangleMixer

NORM_EPS = 1e-12
"""Least squared length of a channel over the tokens, and least mass of a head."""


def mix_statistics(
    states: Float[Tensor, "S H L D"],
    temperature: Float[Tensor, " H"],
    mask: Bool[Tensor, "S L"] | None,
) -> Float[Tensor, "S H L D"]:
    """-w Pi / (1 + s), with membership Pi [S, H, L] and second moments s [S, H, d].

    Pi = softmax over heads of tau_h |wn|^2, wn the channels normalised over the tokens;
    s = sum over tokens of Pi w^2 / sum of Pi. Padding is left out of both sums: of the first before
    tokens are normalised, of the second by a membership of zero.

    Args:
        states: w, the tokens in each head's subspace.
        temperature: tau.
        mask: True at real tokens; None for all.
    """
    energy = zero_padding(states, mask).square()
    per_channel = energy.sum(2, keepdim=True).clamp(min=NORM_EPS)
    logits = (energy / per_channel).sum(-1) * temperature[:, None]
    # along rows: across them torch's softmax has other bits for the last few; and contiguous, as
    # the order of sums follows the layout, which could be that of one sequence or of several
    shares = logits.transpose(1, 2).contiguous().softmax(-1).transpose(1, 2).contiguous()
    membership = zero_padding(shares, mask)[..., None]
    mass = membership.sum(2, keepdim=True).clamp(min=NORM_EPS)
    moments = (membership / mass * energy).sum(2, keepdim=True)
    return -states * membership / (1.0 + moments)


class TssaMixer(RectangleMixer):
    """-w Pi / (1 + s); equivariant under permutations, and so without positions of its own."""

    parts, turned = 1, 0
    follows_order = False

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projection and a temperature per head."""
        super().__init__(config, layer)
        self.temperature = nn.Parameter(torch.ones(config.num_heads))

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """``mix_statistics`` of the only state."""
        (tokens,) = states
        return mix_statistics(tokens, self.temperature.to(tokens.dtype), mask)
