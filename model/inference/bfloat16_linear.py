"""A linear layer on bfloat16 operands, whose sums do not depend on the number of rows.

Shapes: K inputs, N outputs of a layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.functional.tiling import round_rows

SUM_WIDTH = 384
"""Longest sum of one bfloat16 product whose order does not depend on the number of rows."""


class Bfloat16Linear(nn.Module):
    """A linear layer on bfloat16 operands; its bias, if any, is rounded too.

    Attributes:
        weight: The float32 weights [N, K], where they were kept.
        bias: The float32 bias [N], where there is one and it was kept.
        round_output: Whether the result stays in bfloat16, where one product computes it.
        exact: Whether to compute in float32, where the weights were kept.
    """

    weight: Tensor | None
    bias: Tensor | None
    rounded_bias: Tensor | None
    round_output: bool
    exact: bool

    def __init__(self, linear: nn.Linear, keep_float32: bool, round_output: bool = False) -> None:
        """Convert a layer's weights.

        Args:
            linear: A layer.
            keep_float32: Keep its weights too, for ``in_float32``.
            round_output: Leave the result in bfloat16, where its reader rounds it anyway.
        """
        super().__init__()
        self.weight = linear.weight if keep_float32 else None
        self.bias = linear.bias if keep_float32 else None
        rounded_bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
        self.register_buffer("rounded_bias", rounded_bias, persistent=False)
        self.round_output = round_output
        self.exact = False
        self.in_features: int = linear.in_features
        self.out_features: int = linear.out_features
        cpu = linear.weight.device.type == "cpu"  # the others' libraries need no parts
        self.widths: list[int] = _parts(linear.in_features) if cpu else [linear.in_features]
        for place, part in enumerate(linear.weight.detach().split(self.widths, dim=1)):
            rounded = part.to(torch.bfloat16).contiguous()
            self.register_buffer(f"part_{place}", rounded, persistent=False)

    def parts(self) -> list[Tensor]:
        """The weights in bfloat16, [N, k] for each part of the inputs."""
        return [self.get_buffer(f"part_{place}") for place in range(len(self.widths))]

    def forward(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The product; in float32 where ``exact`` is set."""
        if self.exact and self.weight is not None:
            return F.linear(inputs.float(), self.weight, self.bias)
        rounded = inputs.to(torch.bfloat16)
        if rounded.is_cuda or torch.compiler.is_compiling():
            return self._sum(rounded)
        rows = rounded.flatten(0, -2)
        total = self._sum(round_rows(rows))[: len(rows)]
        return total.view(*rounded.shape[:-1], total.shape[-1])

    def _sum(self, rounded: Tensor) -> Tensor:
        biases = [self.rounded_bias, *[None] * (len(self.widths) - 1)]
        parts = zip(rounded.split(self.widths, dim=-1), self.parts(), biases, strict=True)
        first, *others = (F.linear(part, weight, bias) for part, weight, bias in parts)
        if self.round_output and not others:
            return first
        total = first.float()
        for other in others:
            total = total + other.float()
        return total


def _parts(width: int) -> list[int]:
    """``width`` as the fewest nearly equal numbers of at most ``SUM_WIDTH``."""
    count = -(-width // SUM_WIDTH)
    return [width // count + (place < width % count) for place in range(count)]
