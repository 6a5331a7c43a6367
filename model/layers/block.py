"""Blocks: a token mixer and a feed-forward layer with norms and skips.

Shapes: B batch, N tokens, D hidden, F inner width of the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.tiling import by_tiles
from osa.model.layers.mixers import TokenContext, make_mixer

NORM_EPS = 1e-6
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """f(X W_1) W_2, without biases."""

    def __init__(self, config: EncoderConfig) -> None:
        """Create both projections."""
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.ffn_size, bias=False)
        self.down = nn.Linear(config.ffn_size, config.hidden_size, bias=False)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Apply the layer to every token by itself."""
        projected: Tensor = self.down(self.activation(self.up(hidden)))
        return projected


class Block(nn.Module):
    """One token mixer and one feed-forward layer, each with the configured norm and skip."""

    def __init__(self, config: EncoderConfig) -> None:
        """Create both sub-layers."""
        super().__init__()
        self.residual = config.residual
        self.mixer = make_mixer(config)
        self.feed_forward = FeedForward(config)
        self.mixer_norm = make_norm(config)
        self.feed_forward_norm = make_norm(config)

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D]."""
        mixed = self.mixer(hidden, context, self.mixer_norm)
        return by_tiles(self._transform, hidden, mixed)[0]

    def _transform(self, hidden: Tensor, mixed: Tensor) -> tuple[Tensor]:
        """The token-wise part after the mixer."""
        hidden = hidden + mixed if self.residual else mixed
        transformed: Tensor = self.feed_forward(self.feed_forward_norm(hidden))
        return (hidden + transformed if self.residual else transformed,)


def make_norm(config: EncoderConfig) -> nn.Module:
    """RMS norm over D, or nothing where the configuration goes without."""
    return nn.RMSNorm(config.hidden_size, eps=NORM_EPS) if config.norm else nn.Identity()
