"""Blocks of any options as the dense layers that inference replaces by its own.

Monarch matrices become dense ones: on CPUs one product of the kernel takes less time than two
batched ones of small blocks. Shared queries and keys are computed twice, values without a
projection by the identity, so that mixers read what they always read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from osa.model.layers.block import Block
from osa.model.layers.mixers.base import Mixer
from osa.model.layers.monarch import MonarchLinear, as_dense, shaped
from osa.model.layers.residual import Delta


def has_plain_stream(block: Block) -> bool:
    """Whether sub-layers are added to the stream or replace it, and all layers are known."""
    mixer = block.mixer
    known = nn.Linear | MonarchLinear
    inner = block.feed_forward
    layers = [mixer.qkv, *([] if inner is None else [inner.up, inner.down])]
    if mixer.has_values:
        layers.append(mixer.out)
    plain = not isinstance(block.mixer_residual, Delta)
    return plain and all(isinstance(layer, known) for layer in layers)


def joint_projection(mixer: Mixer) -> nn.Linear:
    """Queries, keys and values [3 D, D] of a mixer that may share or lack some of them."""
    dense = as_dense(mixer.qkv)
    if mixer.has_values and not mixer.shares_qk:
        return dense
    width = dense.in_features
    weights, biases = list(dense.weight.detach().split(width)), None
    if dense.bias is not None:
        biases = list(dense.bias.detach().split(width))
    if mixer.shares_qk:
        weights.insert(1, weights[0])
        if biases is not None:
            biases.insert(1, biases[0])
    if not mixer.has_values:
        weights.append(torch.eye(width).to(weights[0]))
        if biases is not None:
            biases.append(torch.zeros_like(biases[0]))
    joined = shaped(width, 3 * width, None if biases is None else torch.cat(biases))
    joined.weight = nn.Parameter(torch.cat(weights))
    return joined


def layers_of(
    block: Block, projection: Callable[[Mixer], nn.Linear]
) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Owner, name and dense form of every linear layer of a block.

    Args:
        block: Of an encoder.
        projection: What becomes of the mixer's joint projection.
    """
    mixer, feed_forward = block.mixer, block.feed_forward
    yield mixer, "qkv", projection(mixer)
    if mixer.has_values:
        yield mixer, "out", as_dense(mixer.out)
    if mixer.side is not None:
        yield mixer, "side", as_dense(mixer.side)
    if feed_forward is not None:
        yield feed_forward, "up", as_dense(feed_forward.up)
        yield feed_forward, "down", as_dense(feed_forward.down)
