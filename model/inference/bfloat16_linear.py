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


class NarrowLinear(nn.Module):
    """A linear layer without bias on bfloat16 operands; its float32 weights may be kept beside."""

    weight: Tensor | None
    narrow_output: bool
    exact: bool

    def __init__(self, linear: nn.Linear, keep_float32: bool, narrow_output: bool = False) -> None:
        """Take over a layer's weights.

        Args:
            linear: A layer without bias.
            keep_float32: Keep its weights beside, for ``in_float32``.
            narrow_output: Leave the result in bfloat16, for one that is rounded anyway.
        """
        super().__init__()
        assert linear.bias is None  # no layer of this project has one
        self.weight = linear.weight if keep_float32 else None
        self.narrow_output = narrow_output
        self.exact = False
        self.out_features: int = linear.out_features
        self.widths: list[int] = _parts(linear.in_features)
        for place, part in enumerate(linear.weight.detach().split(self.widths, dim=1)):
            narrow = part.to(torch.bfloat16).contiguous()
            self.register_buffer(f"part_{place}", narrow, persistent=False)

    def parts(self) -> list[Tensor]:
        """The weights, bfloat16 [N, k] for each part of the inputs."""
        return [self.get_buffer(f"part_{place}") for place in range(len(self.widths))]

    def forward(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The product; in float32 where ``exact`` is set."""
        if self.exact and self.weight is not None:
            return F.linear(inputs.float(), self.weight)
        narrow = inputs.to(torch.bfloat16)
        if narrow.is_cuda or torch.compiler.is_compiling():
            return self._sum(narrow)
        rows = narrow.flatten(0, -2)
        total = self._sum(round_rows(rows))[: len(rows)]
        return total.view(*narrow.shape[:-1], total.shape[-1])

    def _sum(self, narrow: Tensor) -> Tensor:
        first, *others = (
            F.linear(part, weight)
            for part, weight in zip(narrow.split(self.widths, dim=-1), self.parts(), strict=True)
        )
        if self.narrow_output and not others:
            return first
        total = first.float()
        for other in others:
            total = total + other.float()
        return total


def _parts(width: int) -> list[int]:
    """``width`` as the fewest nearly equal numbers of at most ``SUM_WIDTH``."""
    count = -(-width // SUM_WIDTH)
    return [width // count + (place < width % count) for place in range(count)]
