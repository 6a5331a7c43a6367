"""Blocks: a token mixer and a feed-forward layer with norms and skips.

Shapes: B batch, N tokens, D hidden, F inner width of the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.tiling import by_tiles
from osa.model.kernels import native_rows
from osa.model.layers.local_conv import LocalConv
from osa.model.layers.mixers import TokenContext, make_mixer
from osa.model.layers.monarch import make_linear
from osa.model.layers.residual import Delta, make_read, make_residual

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """f(X W_1) W_2, or gated f(X W_a) * (X W_b) W_2 with W_1 = [W_a, W_b].

    Attributes:
        up: W_1; ``nn.Linear``, ``MonarchLinear``, or those of inference.
        down: W_2, likewise.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """Create both projections."""
        super().__init__()
        self.gated = config.ffn_gated
        hidden, inner = config.hidden_size, config.ffn_size
        half = inner if inner % 2 else inner // 2  # of what starts mirrored
        parts = 2 if self.gated else 1
        self.up: Any = make_linear(config, hidden, parts * inner, config.ffn_up_bias, parts, half)
        self.down: Any = make_linear(config, inner, hidden, config.ffn_down_bias, 1, half)
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
    """One token mixer and one feed-forward layer, each with the configured norm and residual rule.

    Attributes:
        feed_forward: None in models without.
    """

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create both sub-layers.

        Args:
            config: Of the encoder.
            layer: Index of the block; its mixer may be local, or the first without a norm.
        """
        super().__init__()
        self.residual, self.post = config.residual, config.norm_place == "post"
        self.local_conv = LocalConv(config) if config.local_conv else None
        self.mixer = make_mixer(config, layer)
        has_inner = config.ffn == "full"
        self.feed_forward = FeedForward(config) if has_inner else None
        normalised = layer == 0 and config.embedding_norm and not self.post
        self.mixer_norm = nn.Identity() if normalised else make_norm(config)
        self.feed_forward_norm = make_norm(config) if has_inner else nn.Identity()
        self.read = make_read(config)
        self.mixer_residual = make_residual(config)
        self.feed_forward_residual = make_residual(config) if has_inner else None
        self._is_bert = (
            self.post
            and config.residual == "add"
            and isinstance(self.feed_forward_norm, nn.LayerNorm)
            and config.activation == "gelu"
            and not config.ffn_gated
        )

    def forward(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """Return the next hidden states [B, N, D], with all channels of the residual stream."""
        if self._is_bert and native_rows.supports(hidden) and self._has_plain_layers():
            return self._in_few_passes(hidden, context)
        return self.transform(hidden, self.mix(hidden, context))

    def mix(self, hidden: Float[Tensor, "B N C"], context: TokenContext) -> Tensor:
        """What the mixer gives for these states [B, N, D]; ``transform`` does the rest."""
        norm = nn.Identity() if self.post else self.mixer_norm
        read = self._mixer_input(self.read(hidden), context)
        mixed: Tensor = self.mixer(read, context, norm)
        return mixed

    def transform(self, hidden: Float[Tensor, "B N C"], mixed: Float[Tensor, "B N D"]) -> Tensor:
        """The next hidden states [B, N, D], from these and what ``mix`` gave."""
        return by_tiles(self._transform, hidden, mixed)[0]

    def _mixer_input(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """What the mixer reads: the residual stream, or a convolution of it."""
        if self.local_conv is None:
            return hidden
        read: Tensor = self.local_conv(hidden, context)
        return read

    def _has_plain_layers(self) -> bool:
        """Whether inference has not replaced the linear layers."""
        inner = self.feed_forward
        layers = () if inner is None else (self.mixer.out, inner.up, inner.down)
        return bool(layers) and all(isinstance(layer, nn.Linear) for layer in layers)

    def _in_few_passes(self, hidden: Float[Tensor, "B N D"], context: TokenContext) -> Tensor:
        """The same for BERT's blocks: all that follows a product in one pass over its result."""
        layer, mixer = self.feed_forward, self.mixer
        first, second = self.mixer_norm, self.feed_forward_norm
        assert layer is not None
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

        read = self._mixer_input(hidden, context)
        return by_tiles(transform, hidden, mixer.mix(read, context, nn.Identity()))[0]

    def _transform(self, hidden: Tensor, mixed: Tensor) -> tuple[Tensor]:
        """The token-wise part after the mixer."""
        rewrites = isinstance(self.mixer_residual, Delta)
        seen = self.mixer_norm(self.read(hidden)) if rewrites else hidden
        hidden = self.mixer_residual(hidden, mixed, seen)
        if self.post:
            hidden = self.mixer_norm(hidden)
        if self.feed_forward is None or self.feed_forward_residual is None:
            return (hidden,)
        seen = hidden if self.post else self.feed_forward_norm(self.read(hidden))
        hidden = self.feed_forward_residual(hidden, self.feed_forward(seen), seen)
        return (self.feed_forward_norm(hidden) if self.post else hidden,)


def make_norm(config: EncoderConfig) -> nn.Module:
    """The configured norm over D, or nothing where the configuration goes without."""
    if not config.norm:
        return nn.Identity()
    if config.norm_type == "layer":
        return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
    return nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
