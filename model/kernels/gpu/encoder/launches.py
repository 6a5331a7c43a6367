"""From tensors to launches of the kernels of this folder; shapes as in each kernel's module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from osa.model.config import Pooling
from osa.model.errors import ConfigError
from osa.model.kernels.gpu import launch as launching
from osa.model.kernels.gpu.encoder import pool, product, rows
from osa.model.kernels.gpu.launch import reduce_type
from osa.model.kernels.gpu.tuning import product_tiles

ACTIVATIONS = {
    "gelu": rows.GELU.value,
    "gelu_tanh": rows.GELU_TANH.value,
    "relu": rows.RELU.value,
    "silu": rows.SILU.value,
}
POOLINGS = {
    "mean": pool.MEAN.value,
    "weighted": pool.WEIGHTED.value,
    "cls": pool.FIRST.value,
    "last": pool.LAST.value,
}
POOL_CHUNK, POOL_COLUMNS = 512, 128
"""Tokens and columns that one program sums."""
WIDEST = 8192
"""Widest row that one program holds [numbers]."""


@dataclass(frozen=True)
class Norm:
    """A norm over the features of a token.

    Attributes:
        kind: One of the kinds of ``rows``.
        weight: Factor of each feature, or None.
        shift: Summand of each feature, or None.
        epsilon: Added to the mean square.
    """

    kind: int
    weight: Tensor | None = None
    shift: Tensor | None = None
    epsilon: float = 0.0

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """The norm of a module of an encoder.

        Raises:
            ConfigError: It is of another kind.
        """
        if isinstance(module, nn.RMSNorm):
            epsilon = torch.finfo(torch.float32).eps if module.eps is None else module.eps
            return cls(rows.RMS_NORM.value, module.weight, None, epsilon)
        if isinstance(module, nn.LayerNorm):
            return cls(rows.LAYER_NORM.value, module.weight, module.bias, module.eps)
        if isinstance(module, nn.Identity):
            return cls(rows.NO_NORM.value)
        raise ConfigError(f"there is no kernel for {type(module).__name__}")


def _warps(block: int) -> int:
    return min(8, max(1, block // 512))


def add_and_norm(
    states: Tensor | None,
    added: Tensor | None,
    norm: Norm,
    dtype: torch.dtype,
    keeps: bool = True,
    post: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """The stream [T, D] in float32 with what is added to it, and its norm in ``dtype``.

    Args:
        states: The stream, or None.
        added: What is added, or None.
        norm: Of the sum.
        dtype: Of the second result.
        keeps: Whether the stream is wanted.
        post: Whether it is the normed sum.
    """
    like = added if states is None else states
    assert like is not None  # one of them is given
    count, width = like.shape
    output = torch.empty(count, width, dtype=dtype, device=like.device)
    stream = torch.empty(count, width, device=like.device) if keeps else None
    block = triton.next_power_of_2(width)
    launching.launch(
        rows.add_and_norm,
        count,
        *(states, added, norm.weight, norm.shift, stream, output, norm.epsilon),
        D=width,
        BLOCK=block,
        KIND=norm.kind,
        POST=post,
        num_warps=_warps(block),
    )
    return stream, output


def turn_heads(
    joint: Tensor,
    positions: Tensor,
    table: tuple[Tensor, Tensor] | None,
    epsilon: float | None,
) -> None:
    """Norm (where ``epsilon`` is given) and turn queries and keys of ``joint`` [T, 3, H, d]."""
    count, _, heads, width = joint.shape
    if table is None and epsilon is None:
        return
    block = triton.next_power_of_2(2 * heads)
    launching.launch(
        rows.turn_heads,
        count,
        *(joint, positions, *(table or (None, None)), epsilon or 0.0),
        HEADS=heads,
        BLOCK=block,
        D=width,
        NORM=epsilon is not None,
        num_warps=_warps(block * width),
    )


def activate(inner: Tensor, activation: str, gated: bool) -> Tensor:
    """f(X) of ``inner`` [T, F], in place; f(A) * B of [T, 2 F] where ``gated``."""
    count, width = inner.shape[0], inner.shape[1] // (2 if gated else 1)
    output = inner.new_empty(count, width) if gated else inner
    block = min(1024, triton.next_power_of_2(width))
    launching.launch(
        rows.activate,
        count * -(-width // block),
        *(inner, output),
        F=width,
        BLOCK=block,
        KIND=ACTIVATIONS[activation],
        GATED=gated,
        num_warps=_warps(block),
    )
    return output


def multiply(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """f(X W^T + b) of ``inputs`` [T, K], with fixed bits; f is optional.

    Args:
        inputs: X.
        weight: W [N, K], in the type of ``inputs``.
        bias: Vector b [N], or None.
        activation: Name of f.
        dtype: Of the result; default is that of ``inputs``.
    """
    count, inner = inputs.shape
    width = weight.shape[0]
    output = torch.empty(count, width, dtype=dtype or inputs.dtype, device=inputs.device)
    tiles = product_tiles(width)
    launching.launch(
        product.multiply_rows,
        -(-count // tiles.rows) * -(-width // tiles.columns),
        *(inputs, weight, bias, output, count),
        K=inner,
        N=width,
        ROWS=tiles.rows,
        COLUMNS=tiles.columns,
        INNER=tiles.inner,
        GROUP=8,
        KIND=rows.NO_ACTIVATION.value if activation is None else ACTIVATIONS[activation],
        DOT=reduce_type(inputs.dtype) if inputs.dtype != torch.float32 else tl.float32,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return output


def pool_packed(hidden: Tensor, how: Pooling, offsets: Tensor) -> Tensor:
    """One state [S, D] of each packed sequence of ``hidden`` [T, D], float32."""
    total, width = hidden.shape
    count, kind = len(offsets) - 1, POOLINGS[how]
    pooled = torch.empty(count, width, device=hidden.device)
    parts = -(-width // POOL_COLUMNS)
    sums = None
    spans = (offsets, count, total, total)
    if kind in (pool.MEAN.value, pool.WEIGHTED.value):
        slots = total // POOL_CHUNK + count
        sums = torch.empty(slots, width, device=hidden.device)
        launching.launch(
            pool.sum_slots,
            slots * parts,
            *(hidden, sums, *spans),
            D=width,
            COLUMNS=POOL_COLUMNS,
            CHUNK=POOL_CHUNK,
            TILE=32,
            KIND=kind,
        )
    launching.launch(
        pool.pool_sequences,
        count * parts,
        *(hidden, sums, pooled, *spans),
        D=width,
        COLUMNS=POOL_COLUMNS,
        CHUNK=POOL_CHUNK,
        KIND=kind,
    )
    return pooled


def to_unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [S, E] and lengths [S] of vectors, float32."""
    count, width = vectors.shape
    units = torch.empty(count, width, device=vectors.device)
    norms = torch.empty(count, device=vectors.device)
    block = triton.next_power_of_2(width)
    launching.launch(
        pool.to_unit, count, *(vectors, units, norms), D=width, BLOCK=block, num_warps=_warps(block)
    )
    return units, norms
