"""Circulant Attention (arXiv:2512.21542): one weight an offset between tokens, by FFT.

The paper computes a circulant matrix of weights on grids of image patches. A text does not go
round, so ``toeplitz`` pads it with zeros to twice its length and divides each offset's sum by the
number of pairs that it has; the paper's own form is ``circulant``. O(N log N), and it sees order.
The gate is the paper's; so is one weight an offset for all tokens of a head.

Shapes: S sequences, L width of a rectangle, H heads, d head width, R = 2 L offsets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.functional.alignment import zero_padding
from osa.model.functional.offsets import correlate, signed_offsets, weigh_offsets
from osa.model.functional.tiling import TOKEN_TILE, head_by_head
from osa.model.layers.mixers.rectangle import RectangleMixer, count_tokens


def offset_weights(
    sums: Float[Tensor, "S H R"], count: Float[Tensor, "#S 1 1"], head_dim: int
) -> Float[Tensor, "S H R"]:
    """Softmax over offsets of mean_i q_i k_(i + s) / sqrt(d), the mean over pairs that are there.

    Args:
        sums: Of q_i k_(i + s) by offset.
        count: Tokens of each sequence, N.
        head_dim: d.
    """
    offsets = signed_offsets(sums.shape[-1] // 2, sums.device)
    pairs = count - offsets.abs()
    scores = sums / (pairs.clamp(min=1.0) * math.sqrt(head_dim))
    return scores.masked_fill(pairs < 1, -torch.inf).softmax(-1)


class ToeplitzMixer(RectangleMixer):
    """o_i = SiLU(t_i) * sum over s of w_s v_(i + s); states q, k, v and the gate t."""

    parts = 4
    copies_states = True
    unshared = "tells offsets s and -s apart by queries and keys that differ"

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Weigh values by offset, and gate."""

        def some_heads(*states: Tensor) -> Tensor:
            query, key, value = (zero_padding(state, mask) for state in states[:3])
            count = count_tokens(query, mask)[..., 0]
            return self.attend((query, key, value), count) * F.silu(states[3])

        return head_by_head(some_heads, *states, least=TOKEN_TILE)

    def attend(
        self, states: tuple[Float[Tensor, "S H L D"], ...], count: Float[Tensor, "#S 1 1"]
    ) -> Float[Tensor, "S H L D"]:
        """Weigh values by offset: of q, k, v that are zero where padded, and counts of tokens."""
        query, key, value = states
        weights = offset_weights(correlate(query, key), count, self.head_dim)
        return weigh_offsets(weights[:, :, None], value)
