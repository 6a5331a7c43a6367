r"""The bottleneck of a Rank Reduction Autoencoder on pooled vectors (arXiv:2405.13980).

In training the vectors Y [R, E] of a whole batch are written in their k leading directions, those
of the largest singular values: Y = A U^T + rest, A = Y U. Directions come from the smaller of the
Gram matrices Y Y^T [R, R] and Y^T Y [E, E]. At inference A = Y B with a fixed basis B [E, k].

The basis is kept over batches: the directions of each, scaled by the root mean square of A along
them, join those of all batches before, which decay, and the k leading ones of both are kept. Thus
leading columns have most of the variance, and shorter vectors stay meaningful.

Shapes: R vectors of a batch, E width before, k width after.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.functional.tiling import missing_rows

DECAY = 0.99
"""Share of the variance of all batches before, at each batch."""


class _StableEigh(torch.autograd.Function):
    """Eigenvalues and vectors of a symmetric matrix, descending, with a bounded gradient.

    The gradient of eigenvectors has 1 / (l_j - l_i). It is (l_j - l_i) / ((l_j - l_i)^2 + e^2)
    here, e = l_max sqrt(eps): close eigenvalues, which rounding mixes, get none.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Decompose ``matrix`` [n, n]."""
        values, vectors = torch.linalg.eigh(matrix)
        values, vectors = values.flip(0), vectors.flip(1)
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: Tensor, of_vectors: Tensor) -> Tensor:
        """The symmetric gradient [n, n]."""
        values, vectors = ctx.saved_tensors
        gaps = values[None, :] - values[:, None]
        small = values.abs().amax() * torch.finfo(values.dtype).eps ** 0.5
        inverse = gaps / (gaps.square() + small.square()).clamp(min=torch.finfo(values.dtype).tiny)
        inner = inverse * (vectors.T @ of_vectors) + torch.diag(of_values)
        found: Tensor = vectors @ (inner + inner.T) @ vectors.T / 2
        return found


def _decompose(matrix: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _StableEigh.apply(matrix)  # type: ignore[no-untyped-call]
    return found


class Reduction(NamedTuple):
    """Vectors of a batch in their leading directions.

    Attributes:
        coordinates: A [R, k], of the most variance first.
        basis: U [E, k].
    """

    coordinates: Float[Tensor, "R k"]
    basis: Float[Tensor, "E k"]


def reduce_rank(vectors: Float[Tensor, "R E"], size: int) -> Reduction:
    """The ``size`` leading directions of vectors, in float32 at least; differentiable.

    Scalar products of coordinates are those of the nearest vectors of this rank. They are defined
    up to signs; a gradient may flow through whatever does not depend on these.

    Args:
        vectors: At least ``size`` of them.
        size: k, at most E.

    Raises:
        ConfigError: Fewer vectors than directions.
    """
    count, width = vectors.shape
    if count < size:
        raise ConfigError(
            f"bottleneck_size {size} takes batches of at least as many vectors, got {count}"
        )
    with torch.autocast(vectors.device.type, enabled=False):
        rows = vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors
        if count >= width:
            _, found = _decompose(rows.T @ rows)
            basis = found[:, :size]
            return Reduction(rows @ basis, basis)
        values, found = _decompose(rows @ rows.T)
        least = values[0].detach() * torch.finfo(values.dtype).eps
        roots = values[:size].clamp(min=least.clamp(min=torch.finfo(values.dtype).tiny)).sqrt()
        return Reduction(found[:, :size] * roots, (rows.T @ found[:, :size]) / roots)


class RankReduction(nn.Module):
    """A fixed linear map to the leading directions of the batches seen in training.

    Attributes:
        basis: B transposed, orthonormal rows [k, E].
        spread: Root mean square of the vectors along each of them [k].
    """

    basis: Tensor
    spread: Tensor

    def __init__(self, width: int, size: int) -> None:
        """Start with the first ``size`` of ``width`` features."""
        super().__init__()
        self.size = size
        self.register_buffer("basis", torch.eye(size, width))
        self.register_buffer("spread", torch.zeros(size))

    def forward(self, vectors: Float[Tensor, "n E"]) -> Float[Tensor, "n k"]:
        """The map of inference; a row's bits do not depend on the other rows."""
        missing = missing_rows(vectors.shape[0], vectors)
        if missing:
            vectors = nn.functional.pad(vectors, (0, 0, 0, missing))
        found = nn.functional.linear(vectors, self.basis.to(vectors.dtype))
        return found[:-missing] if missing else found

    def reduce(self, vectors: Float[Tensor, "R E"]) -> Reduction:
        """Vectors of a whole batch in its own leading directions, which join the basis.

        Vectors that are not finite stay so, and leave the basis as it was.

        Raises:
            ConfigError: Fewer vectors than directions.
        """
        if not bool(torch.isfinite(vectors).all()):
            return Reduction(vectors @ self.basis.T.to(vectors.dtype), self.basis.T)
        found = reduce_rank(vectors, self.size)
        self._join(found.basis.detach(), found.coordinates.detach())
        return found

    @torch.no_grad()
    def _join(self, basis: Tensor, coordinates: Tensor) -> None:
        spread = coordinates.square().mean(0).sqrt()
        old = self.basis.T * (self.spread * DECAY**0.5)
        new = (basis * (spread * (1 - DECAY) ** 0.5)).to(old.dtype)
        directions, sizes, _ = torch.linalg.svd(torch.cat([old, new], 1), full_matrices=False)
        kept = directions[:, : self.size]
        signs = kept.gather(0, kept.abs().argmax(0, keepdim=True)).sign()
        self.basis.copy_((kept * signs).T)
        self.spread.copy_(sizes[: self.size])


def make_bottleneck(config: EncoderConfig) -> RankReduction | None:
    """What reduces projected vectors, where the configuration has it."""
    if config.bottleneck_size is None:
        return None
    return RankReduction(config.embedding_size or config.hidden_size, config.bottleneck_size)
