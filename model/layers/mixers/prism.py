"""PRISM, a parallel residual iterative sequence model (arXiv:2602.10796), in two passes.

A state S per head maps keys to values. A token's value is written in ``STEPS`` refinements of what
is left of it, each along a key of its own, while the state forgets along the first key:

    r_1 = v - u;  delta_l = GELU(p_l r_l);  r_(l+1) = r_l - delta_l
    S <- a S (I - b_1 k_1 k_1^T) + sum over l of b_l delta_l k_l^T;   o = S q

u stands for what the state would have answered: a short causal convolution of the values before the
token, so that no step depends on the state and chunks can be solved at once
(``functional/delta_rule.py``). The published code differs from the paper; the equations here are
the paper's. Inferred, as only these were at hand: u sees ``TAPS`` earlier tokens; p, a and b are
numbers of a head by the token (2 sigmoid, sigmoid, sigmoid); keys and queries are unit vectors, as
the delta rule needs; both passes are added and each head is RMS-normalised.

Shapes: S sequences, L width of a rectangle, H heads, d head width, K refinements.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import zero_padding
from osa.model.functional.delta_rule import Writes, by_chunks, state_depth
from osa.model.layers.mixers.rectangle import RecurrentMixer, normalize_heads
from osa.model.layers.mixers.two_passes import both_ways, summed, turns_of

STEPS = 2
"""Refinements a token, each along its own key."""
TAPS = 3
"""Earlier tokens that stand for the state's answer."""
KEEPING = 4.0
"""Logit of the decay a at the start: half is left after about 38 tokens."""


class PrismMixer(RecurrentMixer):
    """States q, v, k_1, k_2; numbers a, b_1, b_2, p_1, p_2 of a head."""

    native_kind = "prism"
    parts, turned = 2 + STEPS, 0
    scalars = 1 + 2 * STEPS

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections and the convolution of earlier values."""
        super().__init__(config, layer)
        shape = (TAPS, self.num_heads, self.head_dim)
        self.earlier = nn.Parameter(torch.full(shape, 0.5 / TAPS))
        self.keeping = nn.Parameter(torch.full((self.num_heads,), KEEPING))
        self.depth = state_depth(config.max_seq_len)

    def native_weights(self) -> Float[Tensor, "H K"]:
        """Taps, and the logit of the decay."""
        return torch.cat([self.earlier.transpose(0, 1).flatten(1), self.keeping[:, None]], 1)

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Both passes, added."""
        turn, mask = turns_of(states[0], mask)
        states = tuple(both_ways(state, turn) for state in states)
        writes = self.writes(states, torch.cat([mask, mask]))
        depth = self.depth if torch.compiler.is_compiling() else None
        return normalize_heads(summed(by_chunks(writes, depth), turn))

    def writes(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"]
    ) -> Writes:
        """What each token does to the state; padding does nothing.

        Args:
            states: Of sequences in the order of one pass.
            mask: True at real tokens.
        """
        query, value, *keys, numbers = states
        value = zero_padding(value, mask)
        left = value - _earlier(value, self.earlier.to(value.dtype))
        keep, *rest = numbers.unbind(-1)
        values = []
        for gain in rest[STEPS:]:
            values.append(F.gelu(2.0 * gain.sigmoid()[..., None] * left))
            left = left - values[-1]
        rates = torch.stack([rate.sigmoid() for rate in rest[:STEPS]])
        decay = F.logsigmoid(keep + self.keeping.to(keep.dtype)[:, None])
        return Writes(
            F.normalize(query, dim=-1),
            F.normalize(torch.stack(keys), dim=-1),
            torch.stack(values),
            torch.stack([zero_padding(rate, mask) for rate in rates]),
            zero_padding(decay, mask),
        )


def _earlier(values: Float[Tensor, "S H L D"], taps: Float[Tensor, "K H D"]) -> Tensor:
    """Weighted sum of the last tokens before each."""
    width = values.shape[2]
    wide = F.pad(values, (0, 0, len(taps), 0))
    total = torch.zeros_like(values)
    for place, tap in enumerate(taps):
        total = total + wide[:, :, place : place + width] * tap[:, None]
    return total
