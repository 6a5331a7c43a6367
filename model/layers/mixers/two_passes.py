"""Causal mixers in an encoder: one pass forwards, one over each sequence turned round.

Both passes share their weights and run as one batch, the turned sequences after the others. A
sequence is turned round within its own length, so that both begin with a real token.

Shapes: S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from osa.model.functional.alignment import reverse_order, take


def both_ways(
    states: Shaped[Tensor, "S H L _"], turn: Int[Tensor, "S L"]
) -> Shaped[Tensor, "S2 H L _"]:
    """Sequences, and after them the same turned round."""
    return torch.cat([states, take(states, turn, 2)])


def summed(passes: Float[Tensor, "S2 H L D"], turn: Int[Tensor, "S L"]) -> Float[Tensor, "S H L D"]:
    """The results of both passes at each token, added."""
    forwards, backwards = halves(passes, turn)
    return forwards + take(backwards, turn, 2)


def halves(passes: Float[Tensor, "S2 ..."], turn: Int[Tensor, "S L"]) -> tuple[Tensor, Tensor]:
    """The forward pass, and the one over sequences that are turned round."""
    count = turn.shape[0]
    return passes[:count], passes[count:]


def turns_of(
    states: Float[Tensor, "S H L D"], mask: Bool[Tensor, "S L"] | None
) -> tuple[Int[Tensor, "S L"], Bool[Tensor, "S L"]]:
    """``reverse_order`` of sequences, and their mask, all True where there is none."""
    if mask is None:
        mask = torch.ones_like(states[:, 0, :, 0], dtype=torch.bool)
    return reverse_order(mask), mask
