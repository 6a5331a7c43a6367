"""A linear layer whose weight is kept in the layout of the CPU's products alone.

Shapes: K inputs, N outputs of a layer.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.kernels.native_block import Layer
from osa.model.kernels.packed_weights import PackedWeight, pack, pad_outputs, unpack


class PackedLinear(nn.Module):
    """A linear layer for ``PackedBlocks``; called by itself it computes in float32.

    Attributes:
        data: See ``PackedWeight``.
        scale: See ``PackedWeight``.
        totals: See ``PackedWeight``.
        bias: In float32 [N], padded, or None.
    """

    data: Tensor
    scale: Tensor | None
    totals: Tensor | None
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, dtype: str, parts: int = 1) -> None:
        """Pack a layer's weight.

        Args:
            linear: A layer.
            dtype: Of its products.
            parts: Number of layers whose outputs are joined in it.
        """
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.parts = parts
        packed = pack(linear.weight, dtype, parts)
        bias: Tensor | None = linear.bias
        if bias is not None:
            bias = pad_outputs(bias.detach().float(), parts, dtype).contiguous()
        self.register_buffer("data", packed.data, persistent=False)
        self.register_buffer("scale", packed.scale, persistent=False)
        self.register_buffer("totals", packed.totals, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def layer(self) -> Layer:
        """What the CPU kernel takes."""
        return Layer(PackedWeight(self.data, self.scale, self.totals), self.bias)

    def forward(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The product in float32, with the weight as it was rounded; unpacks it every time."""
        weight = unpack(PackedWeight(self.data, self.scale, self.totals))[:, : self.in_features]
        bias = None if self.bias is None else self._real(self.bias)
        return F.linear(inputs.float(), self._real(weight), bias)

    def _real(self, values: Tensor) -> Tensor:
        """Without what pads each part."""
        size = self.out_features // self.parts
        real: Tensor = values.unflatten(0, (self.parts, -1))[:, :size].flatten(0, 1)
        return real
