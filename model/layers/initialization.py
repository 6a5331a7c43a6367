r"""Initial values of the weights.

The paper's scheme (arXiv:2602.05996), with the two conditions derived for it here: per head,
[W_Q W_K] has orthonormal columns; W_V and W_O are orthogonal; alpha is small where tokens are
correlated. Without skip connections the feed-forward layer starts **mirrored**,

    W_1 = [U, -U],   W_2 = [U^T; -U^T] R,   U U^T = I, R orthogonal,

which makes f(X W_1) W_2 = X R an exact isometry for every f with f(z) - f(-z) = z: GELU, SiLU,
ReLU. With any other residual rule small random values are used instead.

Monarch matrices start as products of orthogonal blocks. Keys are then queries whose heads are moved
on by one, and the mirrored layer has U = L R, of one block [L_j; -L_j] a column, and
W_2 = [O_j L_j^T, -O_j L_j^T] without a product to the right.
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
from osa.model.layers.monarch import MonarchLinear
from osa.model.layers.residual import ChannelRead, Delta

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
    hidden, width = mixer.num_heads * mixer.head_dim, mixer.head_dim
    zero_bias(mixer.qkv, mixer.out)
    if isinstance(mixer.qkv, MonarchLinear):
        _initialize_monarch_heads(mixer, mixer.qkv, generator)
    else:
        parts = [*mixer.qkv.weight.split(hidden)]
        for head in range(mixer.num_heads if mixer.turned == 2 else 0):
            rows = slice(head * width, (head + 1) * width)
            joint = orthonormal(width if mixer.shares_qk else 2 * width, hidden, generator)
            parts[0][rows] = joint[:width]
            if not mixer.shares_qk:
                parts[1][rows] = joint[width:]
        for part in parts[mixer.turned - mixer.shares_qk : mixer.stored_parts]:
            part.copy_(orthonormal(hidden, hidden, generator))
        if mixer.scalars:
            parts[mixer.stored_parts].normal_(0.0, RESIDUAL_STD, generator=generator)
    if isinstance(mixer.out, MonarchLinear):
        initialize_monarch(mixer.out, generator)
    elif isinstance(mixer.out, nn.Linear):
        mixer.out.weight.copy_(orthonormal(hidden, hidden, generator))
    if isinstance(mixer.side, nn.Linear):
        mixer.side.weight.zero_()
        zero_bias(mixer.side)
    mixer.initialize_own(generator)


def _initialize_monarch_heads(
    mixer: Mixer, layer: MonarchLinear, generator: torch.Generator | None
) -> None:
    """Orthogonal maps; keys are those of the next head's queries, so orthogonal to a head's own."""
    initialize_monarch(layer, generator)
    if mixer.turned == 2 and not mixer.shares_qk and mixer.num_heads > 1:
        block = layer.block
        layer.right[..., block : 2 * block] = layer.right[..., :block]
        step = mixer.head_dim // block
        layer.left[block : 2 * block] = layer.left[:block].roll(step, dims=-1)


def initialize_monarch(layer: MonarchLinear, generator: torch.Generator | None = None) -> None:
    """Blocks with orthonormal rows or columns, whichever are fewer."""
    groups = [part for whole in layer.right.data for part in whole.split(layer.block, 1)]
    for block in (*groups, *layer.left.data):
        rows, columns = block.shape
        block.copy_(orthonormal(rows, columns, generator))


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
        ConfigError: A model without skips whose feed-forward layer is too small for [U, -U].
    """
    zero_bias(layer.up, layer.down)
    if config.residual != "none":
        depth = math.sqrt(2 * config.num_layers)
        _normal(layer.up, RESIDUAL_STD, generator)
        _normal(layer.down, RESIDUAL_STD / depth, generator)
        return
    half, hidden = config.ffn_size // 2, config.hidden_size
    if config.ffn_size % 2 or half < hidden:
        raise ConfigError(
            f"without residual connections ffn_size must be even and at least {2 * hidden} "
            f"(twice hidden_size), got {config.ffn_size}"
        )
    if isinstance(layer.up, MonarchLinear) and isinstance(layer.down, MonarchLinear):
        return _mirror_blocks(layer.up, layer.down, generator)
    mirror = orthonormal(half, hidden, generator)
    rotation = orthonormal(hidden, hidden, generator)
    layer.up.weight.copy_(torch.cat([mirror, -mirror]))
    layer.down.weight.copy_(rotation @ torch.cat([mirror, -mirror]).T)


def _normal(layer: nn.Module, std: float, generator: torch.Generator | None) -> None:
    """Random weights of this size; of a Monarch matrix those of the dense one."""
    if isinstance(layer, MonarchLinear):
        initialize_monarch(layer, generator)  # numbers of the right blocks: 1 / sqrt(q)
        layer.left.data.normal_(0.0, std * math.sqrt(layer.block), generator=generator)
    else:
        assert isinstance(layer, nn.Linear)
        layer.weight.normal_(0.0, std, generator=generator)


def _mirror_blocks(
    up: MonarchLinear, down: MonarchLinear, generator: torch.Generator | None
) -> None:
    """[L, -L] R and [O L^T; -O L^T]; the transposed blocks are what the layers hold."""
    initialize_monarch(up, generator)
    down.right.copy_(torch.eye(down.block).expand_as(down.right))
    for first, second in zip(up.left, down.left, strict=True):
        inputs, outputs = first.shape
        mirror = orthonormal(inputs, outputs // 2, generator)
        rotation = orthonormal(inputs, inputs, generator)
        first.copy_(torch.cat([mirror, -mirror], 1))
        second.copy_(first.T @ rotation)


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
        elif isinstance(child, Delta):
            child.initialize(generator)
        elif isinstance(child, ChannelRead):
            child.weight.fill_(1.0 / child.channels)
        elif isinstance(child, nn.Embedding):
            child.weight.normal_(0.0, 1.0, generator=generator)
        elif isinstance(child, nn.RMSNorm | nn.LayerNorm) and child.weight is not None:
            child.weight.fill_(1.0)
            zero_bias(child)


def make_projection(
    config: EncoderConfig, generator: torch.Generator | None = None
) -> nn.Linear | None:
    """The orthonormal projection of pooled states, where the configuration has one."""
    if not config.has_projection:
        return None
    width, size = config.hidden_size, config.embedding_size or config.hidden_size
    projection = nn.Linear(width, size, bias=config.embedding_bias)
    projection.weight.data.copy_(orthonormal(size, width, generator))
    zero_bias(projection)
    return projection
