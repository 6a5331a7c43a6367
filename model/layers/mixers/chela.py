"""Short and long convolutions before linear attention, after CHELA (arXiv:2406.08128).

    Z = long(SiLU(short(A)))    depthwise
    O = SiLU(G) * norm(Q (K^T V / N)),  Q = norm(Z s_q + t_q),  K = norm(Z s_k + t_k)

with states A, V, G of each token. From the paper's abstract come the order (short convolution, long
one, linear attention, gate) and that the pair of convolutions replaces a single long one; its
equations were not at hand. Inferred are: queries and keys by scale and shift of Z, values
from the token itself, and the gate, as in Mega (arXiv:2209.10655); RMS norm of each head
in place of a ratio; and the long kernel: in each direction a sum of ``MODES`` exponentials a
channel, so that it decays both ways and has no length of its own. Convolutions see order, so no
positions are added here.

Shapes: S sequences, L width of a rectangle, H heads, d head width, R = 2 L offsets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import zero_padding
from osa.model.functional.offsets import weigh_offsets
from osa.model.functional.varlen import count_up
from osa.model.layers.mixers.rectangle import RecurrentMixer, count_tokens, normalize_heads

TAPS = 3
"""Width of the short convolution [tokens]."""
MODES = 2
"""Exponentials of the long kernel in each direction."""
FASTEST, SLOWEST = 1.0, 1 / 256
"""Rates of decay at the start, from channel to channel [1 / tokens]."""


class ChelaMixer(RecurrentMixer):
    """Linear attention between convolved tokens, behind a gate."""

    native_kind = "chela"
    turned = 0

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections; kernels that pass tokens on and add decaying neighbours."""
        super().__init__(config, layer)
        shape = (self.num_heads, self.head_dim)
        short = torch.zeros(TAPS, *shape)
        short[TAPS // 2] = 1.0
        self.short = nn.Parameter(short)
        spread = torch.linspace(math.log(FASTEST), math.log(SLOWEST), MODES * config.hidden_size)
        rates = spread.view(-1, MODES).T.reshape(MODES, *shape)
        self.rates = nn.Parameter(rates.clone())
        self.long = nn.Parameter((rates.exp() / (2 * MODES)).expand(2, -1, -1, -1).clone())
        self.here = nn.Parameter(torch.ones(shape))
        self.scales = nn.Parameter(torch.ones(2, *shape))
        self.shifts = nn.Parameter(torch.zeros(2, *shape))

    def native_weights(self) -> Float[Tensor, "H K"]:
        """Both convolutions, then scales and shifts of queries and keys."""
        decay = (-self.rates.exp()).exp()
        rows = [self.short, self.here[None], decay, *self.long, self.scales, self.shifts]
        return torch.cat(rows).transpose(0, 1).flatten(1)

    def long_kernel(self, width: int | torch.SymInt, like: Tensor) -> Float[Tensor, "1 H D R"]:
        """Weights by offset: earlier tokens, the token itself, later ones.

        Args:
            width: Of the rectangle, L.
            like: Dtype and device of the result.
        """
        distance = count_up(width, like.device).to(like.dtype)
        rates = self.rates.to(like.dtype).exp()[..., None]
        waves = (-rates * distance).exp()
        earlier, later = self.long.to(like.dtype)
        earlier = earlier * (-rates[..., 0]).exp()  # from distance 1 on
        before, after = (torch.einsum("mhd,mhdl->hdl", part, waves) for part in (earlier, later))
        after = torch.where(distance == 0, self.here.to(like.dtype)[..., None], after)
        return torch.cat([before.flip(-1), after], -1)[None]

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Convolve, attend, gate."""
        start, value, gate = states
        start = zero_padding(start, mask)
        short = zero_padding(F.silu(convolve(start, self.short.to(start.dtype))), mask)
        mixed = weigh_offsets(self.long_kernel(start.shape[2], start), short)
        query, key = (
            normalize_heads(mixed * scale.to(mixed.dtype)[:, None] + shift.to(mixed.dtype)[:, None])
            for scale, shift in zip(self.scales, self.shifts, strict=True)
        )
        summed = zero_padding(key, mask).transpose(-1, -2) @ value / count_tokens(value, mask)
        return normalize_heads(query @ summed) * F.silu(gate)


def convolve(
    states: Float[Tensor, "S H L D"], taps: Float[Tensor, "K H D"]
) -> Float[Tensor, "S H L D"]:
    """A centred depthwise convolution, zero beyond the ends.

    Args:
        states: Zero where padded.
        taps: Of an odd number of neighbours, from the earliest.
    """
    reach, width = len(taps) // 2, states.shape[2]
    wide = F.pad(states, (0, 0, reach, reach))
    total = wide[:, :, :width] * taps[0][:, None]
    for place in range(1, len(taps)):
        total = total + wide[:, :, place : place + width] * taps[place][:, None]
    return total
