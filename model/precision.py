"""Inference in bfloat16: products and attention on narrow operands, all else in float32.

Weights and activations are rounded to bfloat16 where a product reads them; norms, residual sums,
pooling and normalising stay in float32. A product over more than ``SUM_WIDTH`` inputs is made of
several, added in float32: oneDNN splits longer sums by the number of rows, and a vector's bits
would depend on its batch (docs/decisions/0017).

Shapes: K inputs, N outputs of a layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.embedder import EmbeddingModel
from osa.model.layers import Block
from osa.model.mixers.osa import OsaMixer

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
        self._widths: list[int] = _parts(linear.in_features)
        for place, part in enumerate(linear.weight.detach().split(self._widths, dim=1)):
            narrow = part.to(torch.bfloat16).contiguous()
            self.register_buffer(f"part_{place}", narrow, persistent=False)

    def forward(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The product; in float32 where ``exact`` is set."""
        if self.exact and self.weight is not None:
            return F.linear(inputs.float(), self.weight)
        narrow = inputs.to(torch.bfloat16)
        first, *others = (
            F.linear(part, getattr(self, f"part_{place}"))
            for place, part in enumerate(narrow.split(self._widths, dim=-1))
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


def use_bfloat16(model: EmbeddingModel, keep_float32: bool = True) -> EmbeddingModel:
    """Make ``model`` compute in bfloat16, in place; for inference alone.

    Args:
        model: Loaded in float32.
        keep_float32: Keep the weights in float32 as well: see ``in_float32``.
    """
    for block in model.encoder.blocks:
        assert isinstance(block, Block)  # the encoder holds nothing else
        feed_forward, mixer = block.feed_forward, block.mixer
        for owner, names in ((feed_forward, ("up", "down")), (mixer, ("qkv", "out"))):
            for name in names:
                narrow = NarrowLinear(getattr(owner, name), keep_float32, name == "up")
                setattr(owner, name, narrow)
        if isinstance(mixer, OsaMixer):
            mixer.operand_dtype = torch.bfloat16
    return model.requires_grad_(False)


@contextlib.contextmanager
def in_float32(model: EmbeddingModel) -> Iterator[None]:
    """Within the block a model of ``use_bfloat16`` computes in float32; one thread at a time."""
    narrowed = [module for module in model.modules() if isinstance(module, NarrowLinear)]
    mixers = [module for module in model.modules() if isinstance(module, OsaMixer)]
    before = [mixer.operand_dtype for mixer in mixers]
    for module in narrowed:
        module.exact = True
    for mixer in mixers:
        mixer.operand_dtype = None
    try:
        yield
    finally:
        for module in narrowed:
            module.exact = False
        for mixer, dtype in zip(mixers, before, strict=True):
            mixer.operand_dtype = dtype


def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are a speed-up there: tiles (AMX) on CPUs, every recent GPU."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
