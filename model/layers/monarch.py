r"""Linear layers as Monarch matrices: the product of two block-diagonal ones, D (p + q) parameters.

An input of D = p q numbers is a matrix x [p, q], the output a matrix y [m, q]:

    h[a] = R_a x[a],   y[:, j] = L_j h[:, j],

with R_a [q, q] and L_j [m, p]. The map is orthogonal where every block is. Row (i, j) and column
(a, b) of the dense matrix hold L_j[i, a] R_a[j, b]: for given (j, a) a matrix of rank one, so that
the nearest Monarch matrix follows from the largest singular vectors of these sub-blocks
(Dao et al., arXiv:2204.00595; as layers of Transformers arXiv:2506.12383).

Shapes: n rows, K inputs, N outputs, S layers that are joined in one, p q = K, m q = N / S.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.functional.tiling import ROW_MULTIPLE

LEAST_PRODUCT = 400
"""Multiplications of a batched product from which on torch leaves it to the library, whose bits
do not depend on the number of rows."""


class MonarchLinear(nn.Module):
    """One Monarch matrix, or several of the same input side by side, in place of ``nn.Linear``.

    Attributes:
        right: Blocks R transposed, of all parts side by side [p, q, S q].
        left: Blocks L transposed [S q, p, m].
        bias: [N], or None.
        block: q.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool, block: int, parts: int = 1
    ) -> None:
        """Create the blocks; ``initialize_monarch`` sets their values.

        Args:
            in_features: K.
            out_features: N.
            bias: Whether it has one.
            block: q, a divisor of K and of N / S.
            parts: S.
        """
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.block, self.parts = block, parts
        groups, outputs = in_features // block, out_features // parts // block
        self.right = nn.Parameter(torch.empty(groups, block, parts * block))
        self.left = nn.Parameter(torch.empty(parts * block, groups, outputs))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The product, by two batched ones; a row's bits do not depend on the other rows."""
        groups, block, _ = self.right.shape
        rows = inputs.flatten(0, -2)
        missing = 0 if torch.compiler.is_compiling() else self._missing_rows(rows)
        if missing:
            rows = F.pad(rows, (0, 0, 0, missing))
        split = rows.unflatten(1, (groups, block)).transpose(0, 1)
        inner = torch.bmm(split, self.right)  # [p, n, S q]
        outer = torch.bmm(inner.permute(2, 1, 0), self.left)  # [S q, n, m]
        joined = outer.unflatten(0, (self.parts, block)).permute(2, 0, 3, 1)
        found = joined.reshape(rows.shape[0], self.out_features)
        found = found[:-missing] if missing else found
        if self.bias is not None:
            found = found + self.bias.to(found.dtype)
        whole: Tensor = found.unflatten(0, inputs.shape[:-1]) if inputs.dim() != 2 else found
        return whole

    def _missing_rows(self, rows: Tensor) -> int:
        """Rows to add on a CPU in inference, so that all products are the library's."""
        if rows.device.type != "cpu" or torch.is_grad_enabled():
            return 0
        smallest = min(self.right[0].numel(), self.left[0].numel())
        least = -(-LEAST_PRODUCT // smallest)
        wanted = max(least, rows.shape[0])
        return -(-wanted // ROW_MULTIPLE) * ROW_MULTIPLE - rows.shape[0] if rows.shape[0] else 0

    def dense(self) -> nn.Linear:
        """The same layer as one matrix [N, K]."""
        block = self.block
        right = self.right.detach().unflatten(2, (self.parts, block))
        left = self.left.detach().unflatten(0, (self.parts, block))
        weight = torch.einsum("sjai,absj->sijab", left, right)
        made = shaped(self.in_features, self.out_features, self.bias)
        made.weight = nn.Parameter(weight.reshape(self.out_features, self.in_features))
        return made

    @torch.no_grad()
    def project(self, linear: nn.Linear) -> None:
        """Take over the nearest Monarch matrix to a dense layer, in the Frobenius norm.

        Args:
            linear: Of the same widths.
        """
        groups, block, _ = self.right.shape
        whole = linear.weight.detach().double().unflatten(0, (self.parts, -1, block))
        pieces = whole.unflatten(3, (groups, block)).permute(0, 2, 3, 1, 4)  # [S, j, a, i, b]
        first, sizes, second = torch.linalg.svd(pieces, full_matrices=False)
        root = sizes[..., :1].sqrt()
        left, right = first[..., 0] * root, second[..., 0, :] * root
        self.left.copy_(left.flatten(0, 1))
        self.right.copy_(right.permute(2, 3, 0, 1).flatten(2))
        if self.bias is not None and linear.bias is not None:
            self.bias.copy_(linear.bias)


def shaped(inputs: int, outputs: int, bias: Tensor | None) -> nn.Linear:
    """A dense layer of these widths with this bias, its weight not set yet."""
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def as_dense(layer: nn.Module) -> nn.Linear:
    """A linear layer of any kind as ``nn.Linear``, for what computes with dense weights."""
    if isinstance(layer, MonarchLinear):
        return layer.dense()
    assert isinstance(layer, nn.Linear)  # the only other kind
    return layer


def make_linear(
    config: EncoderConfig, inputs: int, outputs: int, bias: bool, parts: int = 1, unit: int = 0
) -> nn.Linear | MonarchLinear:
    """A linear layer of a block, of the configured kind.

    Args:
        config: Of the encoder.
        inputs: K.
        outputs: N.
        bias: Whether it has one.
        parts: Layers of the same input that are joined in it.
        unit: What the blocks of a Monarch matrix must divide besides; 0 for nothing.

    Raises:
        ConfigError: The widths have no common divisor that makes blocks.
    """
    if config.linear == "dense":
        return nn.Linear(inputs, outputs, bias=bias)
    block = block_width(inputs, outputs // parts, unit)
    return MonarchLinear(inputs, outputs, bias, block, parts)


def block_width(inputs: int, outputs: int, unit: int = 0) -> int:
    """The common divisor q of fewest parameters, in a layer and one that leads back.

    These have K q + K N / q and N q + K N / q, so that both get the same blocks.

    Raises:
        ConfigError: They have none between 1 and K.
    """
    common = math.gcd(inputs, outputs, unit)
    divisors = [q for q in range(2, min(common, inputs - 1) + 1) if common % q == 0]
    if not divisors:
        raise ConfigError(
            f"linear monarch splits {inputs} inputs and {outputs} outputs into equal blocks, which "
            f"have no common width (also of heads, or of half of ffn_size: {unit}): choose "
            "multiples of 8"
        )
    both, inner = inputs + outputs, 2 * inputs * outputs
    return min(divisors, key=lambda q: (both * q + inner // q, q))
