r"""Initial values of the weights.

The paper's scheme (arXiv:2602.05996), with the two conditions derived for it here: per head,
[W_Q W_K] has orthonormal columns; W_V and W_O are orthogonal; alpha is small where tokens are
correlated. Without skip connections the feed-forward layer starts **mirrored**,

    W_1 = [U, -U],   W_2 = [U^T; -U^T] R,   U U^T = I, R orthogonal,

which makes f(X W_1) W_2 = X R an exact isometry for every f with f(z) - f(-z) = z: GELU, SiLU,
ReLU. With skip connections small random values are used instead.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.layers.block import FeedForward
from osa.model.layers.mixers import Mixer

RESIDUAL_STD = 0.02
RANDOM = ("normal_", "uniform_", "kaiming_uniform_")
"""Functions that fill tensors in place, here and in torch's modules."""


class _WithoutRandom(TorchFunctionMode):
    """Skips calls that fill tensors with random values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass all other calls on."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """Modules created within have shapes and no values, for weights that are loaded later.

    Random functions on ``meta`` tensors have no effect but import torch's compiler: skipped.
    """
    with torch.device("meta"), _WithoutRandom():
        yield


def orthonormal(rows: int, columns: int, generator: torch.Generator | None = None) -> Tensor:
    """A random [rows, columns] matrix with orthonormal rows or columns, whichever are fewer."""
    if torch.get_default_device().type == "meta":
        return torch.empty(rows, columns)
    gaussian = torch.randn(
        max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64
    )
    basis, triangle = torch.linalg.qr(gaussian)
    basis = basis * triangle.diagonal().sign()
    matrix: Tensor = (basis if rows >= columns else basis.T).to(torch.float32)
    return matrix


@torch.no_grad()
def initialize_mixer(mixer: Mixer, generator: torch.Generator | None = None) -> None:
    """Orthonormal [W_Q W_K] a head; all other states, as W_V and W_O, by orthogonal maps.

    A layer ``side`` starts at zero.
    """
    hidden = mixer.out.weight.shape[0]
    width = mixer.head_dim
    parts = [*mixer.qkv.weight.split(hidden)]
    if mixer.turned == 2:
        query, key = parts[:2]
        for head in range(mixer.num_heads):
            rows = slice(head * width, (head + 1) * width)
            joint = orthonormal(2 * width, hidden, generator)
            query[rows], key[rows] = joint[:width], joint[width:]
    for part in parts[mixer.turned : mixer.parts]:
        part.copy_(orthonormal(hidden, hidden, generator))
    if mixer.scalars:
        parts[mixer.parts].normal_(0.0, RESIDUAL_STD, generator=generator)
    mixer.out.weight.copy_(orthonormal(hidden, hidden, generator))
    zero_bias(mixer.qkv, mixer.out)
    if isinstance(mixer.side, nn.Linear):
        mixer.side.weight.zero_()
        zero_bias(mixer.side)
    mixer.initialize_own(generator)


def zero_bias(*layers: nn.Module) -> None:
    """Set the biases of layers that have one to zero."""
    for layer in layers:
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            bias.data.zero_()


@torch.no_grad()
def initialize_feed_forward(
    layer: FeedForward, config: EncoderConfig, generator: torch.Generator | None = None
) -> None:
    """Mirrored without skips; small random with them.

    Raises:
        ConfigError: A model without skips whose feed-forward layer is gated, or too small for
            [U, -U].
    """
    zero_bias(layer.up, layer.down)
    if not config.residual and config.ffn_gated:
        raise ConfigError("ffn_gated needs residual connections: a gated layer is no isometry")
    if config.residual:
        depth = math.sqrt(2 * config.num_layers)
        layer.up.weight.normal_(0.0, RESIDUAL_STD, generator=generator)
        layer.down.weight.normal_(0.0, RESIDUAL_STD / depth, generator=generator)
        return
    half, hidden = config.ffn_size // 2, config.hidden_size
    if config.ffn_size % 2 or half < hidden:
        raise ConfigError(
            f"without residual connections ffn_size must be even and at least {2 * hidden} "
            f"(twice hidden_size), got {config.ffn_size}"
        )
    mirror = orthonormal(half, hidden, generator)
    rotation = orthonormal(hidden, hidden, generator)
    layer.up.weight.copy_(torch.cat([mirror, -mirror]))
    layer.down.weight.copy_(rotation @ torch.cat([mirror, -mirror]).T)


@torch.no_grad()
def initialize(
    module: nn.Module, config: EncoderConfig, generator: torch.Generator | None = None
) -> None:
    """Set every weight below ``module``; embeddings and input projections to unit RMS."""
    for child in module.modules():
        if isinstance(child, Mixer):
            initialize_mixer(child, generator)
        elif isinstance(child, FeedForward):
            initialize_feed_forward(child, config, generator)
        elif isinstance(child, nn.Embedding):
            child.weight.normal_(0.0, 1.0, generator=generator)
        elif isinstance(child, nn.RMSNorm | nn.LayerNorm) and child.weight is not None:
            child.weight.fill_(1.0)
            zero_bias(child)
