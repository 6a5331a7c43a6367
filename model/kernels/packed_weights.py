"""Weights of linear layers in the layout that the CPU's products read.

``csrc/osa_transform.h`` specifies it: of each 32 outputs the inputs in words of 32 bits. In int8
every output has a scale, its largest weight over 127.

Shapes: K inputs and N outputs of a layer, padded as ``padded`` says; w inputs of a word.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

DTYPES = {"float32": 0, "bfloat16": 1, "int8": 2}
"""Dtypes of products, and their numbers in the library."""
PANEL = 32
"""Outputs that lie side by side."""
GROUP = 384
"""Inputs of an int8 product that share one scale."""
LARGEST = 127.0
_WORDS = {"float32": 1, "bfloat16": 2, "int8": 4}
_UNITS = {"float32": 32, "bfloat16": 32, "int8": 64}


class PackedWeight(NamedTuple):
    """A packed weight.

    Attributes:
        data: [N / 32, K / w, 32, w].
        scale: In int8, of every output [N].
        totals: In int8, sums of the whole numbers over groups of ``GROUP`` inputs [K / GROUP, N].
    """

    data: Tensor
    scale: Tensor | None = None
    totals: Tensor | None = None

    @property
    def outputs(self) -> int:
        """N."""
        return self.data.shape[0] * PANEL

    @property
    def inputs(self) -> int:
        """K."""
        return self.data.shape[1] * self.data.shape[3]


def padded(width: int, dtype: str) -> int:
    """The width that products of this dtype have for ``width`` inputs or outputs."""
    unit = _UNITS[dtype]
    return -(-width // unit) * unit


def pad_outputs(values: Tensor, parts: int, dtype: str) -> Tensor:
    """Weights or biases [n, ...] of ``parts`` joined layers, with zeros after each."""
    split = values.unflatten(0, (parts, -1))
    missing = padded(split.shape[1], dtype) - split.shape[1]
    return F.pad(split, (0, 0) * (split.dim() - 2) + (0, missing)).flatten(0, 1)


def pack(weight: Float[Tensor, "n k"], dtype: str, parts: int = 1) -> PackedWeight:
    """Pack the weight of a layer.

    Args:
        weight: Of any width.
        dtype: One of ``DTYPES``.
        parts: Number of layers whose outputs are joined; each is padded by itself.
    """
    inputs = padded(weight.shape[1], dtype)
    whole = pad_outputs(weight.detach().float(), parts, dtype)
    whole = F.pad(whole, (0, inputs - weight.shape[1]))
    if dtype == "float32":
        return PackedWeight(_in_words(whole, dtype))
    if dtype == "bfloat16":
        return PackedWeight(_in_words(whole.to(torch.bfloat16), dtype))
    scale = whole.abs().amax(1) / LARGEST
    numbers = (whole / torch.where(scale > 0, scale, 1.0)[:, None]).round()
    totals = torch.stack([group.sum(1) for group in numbers.split(GROUP, dim=1)])
    return PackedWeight(_in_words(numbers.to(torch.int8), dtype), scale, totals)


def unpack(packed: PackedWeight) -> Float[Tensor, "N K"]:
    """The weight, as rounded and padded."""
    whole = packed.data.transpose(1, 2).flatten(0, 1).flatten(1).float()
    return whole if packed.scale is None else whole * packed.scale[:, None]


def _in_words(weight: Tensor, dtype: str) -> Tensor:
    outputs, inputs = weight.shape
    word = _WORDS[dtype]
    split = weight.view(outputs // PANEL, PANEL, inputs // word, word)
    return split.transpose(1, 2).contiguous()
