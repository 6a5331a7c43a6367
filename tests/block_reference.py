"""A block between two attentions in float64, but for what its products round."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.kernels.native_block import Affine, BlockWeights, Layer
from osa.model.kernels.packed_weights import GROUP, pack, pad_outputs, unpack
from osa.model.layers.block import ACTIVATIONS as FUNCTIONS
from osa.model.layers.positions import rotate

EPS = 1e-6
Rotary = tuple[Tensor, Tensor]


class Weights:
    """A block's weights, as they are and packed."""

    def __init__(self, dtype: str, width: int, inner: int, heads: int, **rules: Any):
        self.dtype, self.width, self.heads = dtype, width, heads
        self.gated = bool(rules.get("gated"))
        self.activation = str(rules.setdefault("activation", "gelu"))
        self.residual, self.post = bool(rules.get("residual", True)), bool(rules.get("post"))
        self.layer_norm, self.normalize = (
            bool(rules.get("layer_norm")),
            rules.pop("normalize", True),
        )
        biases, normed = rules.pop("biases", False), rules.pop("norms", True)
        up = 2 if self.gated else 1
        sizes = {
            "qkv": (3 * width, width, 3),
            "out": (width, width, 1),
            "up": (up * inner, width, up),
            "down": (width, inner, 1),
        }
        layers = {}
        for name, (outputs, inputs, parts) in sizes.items():
            packed = pack(torch.randn(outputs, inputs) / inputs**0.5, dtype, parts)
            bias = torch.randn(outputs) if biases else None
            real = unpack(packed)[:, :inputs].unflatten(0, (parts, -1))[:, : outputs // parts]
            setattr(self, name, (real.flatten(0, 1).double(), bias))
            filled = None if bias is None else pad_outputs(bias, parts, dtype).contiguous()
            layers[name] = Layer(packed, filled)
        self.norms = torch.rand(2, width) + 0.5 if normed else None
        self.norm_biases = torch.randn(2, width) if biases and normed else None
        self.without = frozenset(rules.pop("without", ()))
        some = {name: None if name in self.without else layer for name, layer in layers.items()}
        self.packed = BlockWeights(
            self._affine(0), layers["qkv"], some["out"], self._affine(1), some["up"],
            some["down"], normalize=self.normalize, **rules,
        )  # fmt: skip

    def _affine(self, place: int) -> Affine:
        def filled(values: Tensor | None) -> Tensor | None:
            return (
                None if values is None else pad_outputs(values[place], 1, self.dtype).contiguous()
            )

        return Affine(filled(self.norms), filled(self.norm_biases))

    def read(self, rows: Tensor) -> Tensor:
        """Rows as a product reads them."""
        if self.dtype == "float32":
            return rows
        if self.dtype == "bfloat16":
            return rows.bfloat16().double()
        parts = []
        for part in rows.split(GROUP, dim=1):
            scale = part.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
            parts.append((part / scale).round() * scale)
        return torch.cat(parts, 1)

    def product(self, rows: Tensor, name: str) -> Tensor:
        weight, bias = getattr(self, name)
        found: Tensor = self.read(rows) @ weight.T
        return found if bias is None else found + bias

    def norm(self, hidden: Tensor, place: int) -> Tensor:
        if self.norms is None:
            return hidden
        weight = self.norms[place].double()
        bias = None if self.norm_biases is None else self.norm_biases[place].double()
        if self.layer_norm:
            return F.layer_norm(hidden, hidden.shape[1:], weight, bias, EPS)
        normed = F.rms_norm(hidden, hidden.shape[1:], weight, EPS)
        return normed if bias is None else normed + bias

    def second_half(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """In float64, but for what is rounded."""
        kept = 1.0 if self.residual else 0.0
        bare = "out" in self.without
        added = mixed.double() if bare else self.product(mixed.double(), "out")
        hidden = kept * hidden + added
        hidden = self.norm(hidden, 0) if self.post else hidden
        if "up" in self.without:
            return hidden
        inner = self.product(hidden if self.post else self.norm(hidden, 1), "up")
        if self.gated:
            activated, gate = inner.chunk(2, dim=1)
            inner = FUNCTIONS[self.activation](activated) * gate
        else:
            inner = FUNCTIONS[self.activation](inner)
        hidden = kept * hidden + self.product(inner, "down")
        return self.norm(hidden, 1) if self.post else hidden

    def first_half(self, hidden: Tensor, rotary: Rotary | None) -> Tensor:
        """States [T, 3, H, d], likewise."""
        normed = hidden if self.post else self.norm(hidden, 0)
        states = self.product(normed, "qkv").unflatten(1, (3, self.heads, -1))
        query, key = states[:, 0], states[:, 1]
        if self.normalize:
            query, key = (F.rms_norm(part, part.shape[2:], eps=EPS) for part in (query, key))
        if rotary is not None:
            turn = [part[None].double() for part in rotary]
            query, key = (rotate(part[None], *turn)[0] for part in (query, key))
        return torch.stack([query, key, states[:, 2]], 1)
