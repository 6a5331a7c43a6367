"""Token statistics self-attention of the Token Statistics Transformer (arXiv:2412.17810).

Each head is a subspace. Tokens are assigned to heads by how much of their (token-normalised) energy
lies there, and every head damps its directions by the energy that its tokens have in them. Nothing
compares two tokens, so that time and memory are linear in both N and D.

Shapes: S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import zero_padding
from osa.model.functional.tiling import join_parts, take_part, token_parts
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
    parts = token_parts(states)

    def energy_of(part: slice) -> tuple[Tensor, Tensor | None]:
        own = None if mask is None else mask[:, part]
        (taken,) = take_part((states,), part)
        return zero_padding(taken, own).square(), own

    sums = [energy_of(part)[0].sum(2, keepdim=True) for part in parts]
    per_channel = functools.reduce(torch.add, sums).clamp(min=NORM_EPS)
    memberships: list[Tensor] = []
    masses, moments = [], []
    for part in parts:
        energy, own = energy_of(part)
        logits = (energy / per_channel).sum(-1) * temperature[:, None]
        # along rows: across them torch's softmax has other bits for the last few; and contiguous,
        # as the order of sums follows the layout, which could be that of one sequence or of several
        shares = logits.transpose(1, 2).contiguous().softmax(-1).transpose(1, 2).contiguous()
        memberships.append(zero_padding(shares, own)[..., None])
        masses.append(memberships[-1].sum(2, keepdim=True))
        moments.append((memberships[-1] * energy).sum(2, keepdim=True))
    mass = functools.reduce(torch.add, masses).clamp(min=NORM_EPS)
    damped = -1.0 / (1.0 + functools.reduce(torch.add, moments) / mass)
    by_part = dict(zip([part.start for part in parts], memberships, strict=True))
    return join_parts(lambda part: states[:, :, part] * by_part[part.start] * damped, parts, states)


class TssaMixer(RectangleMixer):
    """-w Pi / (1 + s); equivariant under permutations, and so without positions of its own."""

    parts, turned = 1, 0
    follows_order, copies_states = False, True

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
