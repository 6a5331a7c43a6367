r"""Residual rules: how what a sub-layer gives changes the residual stream.

With h what the sub-layer gives, c its (normalised) input, k = h / |h|, v = W_v c and
beta = 2 sigmoid(w c + b):

    add          X + h
    none         h
    delta        X + beta k (v - k^T X)       one component is replaced; beta = 2 reflects it
    write_only   X + beta k v                 the control: nothing is erased
    delta4       the same as delta for X [D, 4]: one v a channel, k shared

``delta`` is Deep Delta Learning (arXiv:2601.00417): X has the transition I - beta k k^T, whose
eigenvalues are 1 and 1 - beta. In ``delta4`` embeddings fill all channels, sub-layers read a
weighted sum of them, and so does what follows the last block. The paper's short convolution over
tokens in that sum is left out: mixers see other tokens anyway, and packed sequences stay apart.

Shapes: D hidden, V channels of the stream, 4 or 1; states hold the channels one after the other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig

CHANNELS = 4
"""V of ``delta4``."""
GATE_INIT = 0.5
"""beta at the start: what is not erased stays as 1 - beta, so that no direction is lost."""
VALUE_STD = 0.02
EPS = 1e-12
"""Added to the mean square of a sub-layer's output where it is normalised."""


class Add(nn.Module):
    """X + h."""

    def forward(self, state: Tensor, update: Tensor, seen: Tensor) -> Tensor:
        """The next states; ``seen`` is not needed."""
        return state + update


class Replace(nn.Module):
    """h."""

    def forward(self, state: Tensor, update: Tensor, seen: Tensor) -> Tensor:
        """The next states, which are the update."""
        return update


class Delta(nn.Module):
    """X + beta k (v - k^T X), or without the erasure X + beta k v.

    Attributes:
        gate: w [D].
        gate_bias: b [1].
        value: W_v, of the channels one after the other [V D].
    """

    def __init__(self, width: int, channels: int = 1, erases: bool = True) -> None:
        """Create the weights.

        Args:
            width: D.
            channels: V.
            erases: Whether the component along k is replaced, not added to.
        """
        super().__init__()
        self.width, self.channels, self.erases = width, channels, erases
        self.gate = nn.Parameter(torch.zeros(width))
        self.gate_bias = nn.Parameter(torch.empty(1))
        self.value = nn.Parameter(torch.empty(channels * width))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None) -> None:
        """Set the first values: beta alike for all tokens, small values."""
        share = GATE_INIT / 2
        self.gate.zero_()
        self.gate_bias.fill_(math.log(share / (1 - share)))
        self.value.normal_(0.0, VALUE_STD, generator=generator)

    def forward(
        self,
        state: Float[Tensor, "*batch VD"],
        update: Float[Tensor, "*batch D"],
        seen: Float[Tensor, "*batch D"],
    ) -> Float[Tensor, "*batch VD"]:
        """The next states, in the type of ``state``.

        Args:
            state: X, float32 also under autocast.
            update: h.
            seen: c.
        """
        with torch.autocast(state.device.type, enabled=False):
            update, seen = update.to(state.dtype), seen.to(state.dtype)
            root = math.sqrt(self.width)
            direction = F.rms_norm(update, (self.width,), eps=EPS) / root
            gate = 2.0 * torch.sigmoid(_along(seen, self.gate) + self.gate_bias)
            parts = []
            for part, value in zip(
                state.split(self.width, -1), self.value.split(self.width), strict=True
            ):
                wanted = _along(seen, value)
                if self.erases:
                    wanted = wanted - _along(direction, part)
                parts.append(part + (gate * wanted) * direction)
            return torch.cat(parts, -1) if self.channels > 1 else parts[0]


class ChannelRead(nn.Module):
    """A weighted sum of the channels, with a weight for every channel and feature [V D]."""

    def __init__(self, width: int, channels: int) -> None:
        """Create the weights as a mean."""
        super().__init__()
        self.width, self.channels = width, channels
        self.weight = nn.Parameter(torch.full((channels * width,), 1.0 / channels))

    def forward(self, state: Float[Tensor, "*batch VD"]) -> Float[Tensor, "*batch D"]:
        """What a sub-layer reads of the states."""
        first: Tensor
        first, *others = (state * self.weight).split(self.width, -1)
        for part in others:
            first = first + part
        return first


def _along(rows: Tensor, other: Tensor) -> Float[Tensor, "*batch 1"]:
    """Scalar product of every row; its bits do not depend on the other rows."""
    return (rows * other).sum(-1, keepdim=True)


def state_channels(config: EncoderConfig) -> int:
    """Channels of the residual stream, each of ``hidden_size`` features."""
    return CHANNELS if config.residual == "delta4" else 1


def make_read(config: EncoderConfig) -> nn.Module:
    """From the residual stream to what a sub-layer reads of it: the same, but for ``delta4``."""
    channels = state_channels(config)
    return nn.Identity() if channels == 1 else ChannelRead(config.hidden_size, channels)


def make_residual(config: EncoderConfig) -> Add | Replace | Delta:
    """The configured rule of one sub-layer."""
    if config.residual == "add":
        return Add()
    if config.residual == "none":
        return Replace()
    erases = config.residual != "write_only"
    return Delta(config.hidden_size, state_channels(config), erases)
