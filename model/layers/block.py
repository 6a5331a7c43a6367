"""Blocks: a token mixer and a feed-forward layer with norms and skips.

Shapes: B batch, N tokens, D hidden, F inner width of the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.tiling import by_tiles
from osa.model.kernels import native_rows
from osa.model.layers.mixers import TokenContext, make_mixer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """f(X W_1) W_2, or gated f(X W_a) * (X W_b) W_2 with W_1 = [W_a, W_b]."""

    def __init__(self, config: EncoderConfig) -> None:
        """Create both projections."""
        super().__init__()
        self.gated = config.ffn_gated
        inner = config.ffn_size * (2 if self.gated else 1)
        self.up = nn.Linear(config.hidden_size, inner, bias=config.ffn_up_bias)
        self.down = nn.Linear(config.ffn_size, config.hidden_size, bias=config.ffn_down_bias)
        self.activation_name = config.activation
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Apply the layer to every token by itself."""
        inner: Tensor = self.up(hidden)
        if self.gated:
            activated, gate = inner.chunk(2, dim=-1)
            inner = self.activation(activated) * gate
        else:
            inner = self.activation(inner)
        projected: Tensor = self.down(inner)
        return projected


class Block(nn.Module):
    """One token mixer and one feed-forward layer, each with the configured norm and skip."""

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create both sub-layers.

        Args:
            config: Of the encoder.
            layer: Index of the block; its mixer may be local, or the first without a norm.
        """
        super().__init__()
        self.residual, self.post = config.residual, config.norm_place == "post"
        self.mixer = make_mixer(config, layer)
        self.feed_forward = FeedForward(config)
        normalised = layer == 0 and config.embedding_norm and not self.post
        self.mixer_norm = nn.Identity() if normalised else make_norm(config)
        self.feed_forward_norm = make_norm(config)
        self._is_bert = (
            self.post
            and config.residual
            and isinstance(self.feed_forward_norm, nn.LayerNorm)
            and config.activation == "gelu"
            and not config.ffn_gated
        )

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D]."""
        if self._is_bert and native_rows.supports(hidden) and self._has_plain_layers():
            return self._in_few_passes(hidden, context)
        norm = nn.Identity() if self.post else self.mixer_norm
        mixed = self.mixer(hidden, context, norm)
        return by_tiles(self.transform, hidden, mixed)[0]

    def _has_plain_layers(self) -> bool:
        """Whether inference has not replaced the linear layers."""
        layers = (self.mixer.out, self.feed_forward.up, self.feed_forward.down)
        return all(isinstance(layer, nn.Linear) for layer in layers)

    def _in_few_passes(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """The same for BERT's blocks: all that follows a product in one pass over its result."""
        layer, mixer = self.feed_forward, self.mixer
        first, second = self.mixer_norm, self.feed_forward_norm
        assert isinstance(first, nn.LayerNorm)
        assert isinstance(second, nn.LayerNorm)

        def transform(tile: Tensor, mixed: Tensor) -> tuple[Tensor]:
            states = tile.clone(memory_format=torch.contiguous_format)
            native_rows.add_and_norm_(
                states, F.linear(mixed, mixer.out.weight), mixer.out.bias, first
            )
            inner = native_rows.gelu_(F.linear(states, layer.up.weight), layer.up.bias)
            added = F.linear(inner, layer.down.weight)
            return (native_rows.add_and_norm_(states, added, layer.down.bias, second),)

        return by_tiles(transform, hidden, mixer.mix(hidden, context, nn.Identity()))[0]

    def transform(self, hidden: Tensor, mixed: Tensor) -> tuple[Tensor]:
        """The token-wise part after the mixer.

        Args:
            hidden: States of some tokens [*batch, D].
            mixed: What the mixer gave for them [*batch, D].
        """
        hidden = hidden + mixed if self.residual else mixed
        if self.post:
            hidden = self.mixer_norm(hidden)
            transformed: Tensor = self.feed_forward(hidden)
        else:
            transformed = self.feed_forward(self.feed_forward_norm(hidden))
        hidden = hidden + transformed if self.residual else transformed
        return (self.feed_forward_norm(hidden) if self.post else hidden,)


def make_norm(config: EncoderConfig) -> nn.Module:
    """The configured norm over D, or nothing where the configuration goes without."""
    if not config.norm:
        return nn.Identity()
    if config.norm_type == "layer":
        return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
    return nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
