"""Pooling: hidden states to one vector per sequence.

Shapes: B batch, N tokens, S packed sequences, D hidden, E embedding width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.config import Pooling
from osa.model.functional.varlen import segment_ids


class EmbeddingOutput(NamedTuple):
    """Unit vectors and their lengths before normalising; their product is the raw vector.

    Attributes:
        embeddings: L2-normalised vectors [S, E].
        norms: Length of each vector before normalising [S].
    """

    embeddings: Float[Tensor, "S E"]
    norms: Float[Tensor, " S"]


def pool(
    hidden: Float[Tensor, "B N D"],
    how: Pooling,
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, " S1"] | None,
) -> Float[Tensor, "S D"]:
    """Mean over each sequence's tokens, or its first token. Empty sequences give zeros.

    Args:
        hidden: States of every token.
        how: ``mean`` or ``cls``.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
    if cu_seqlens is not None and torch.compiler.is_compiling():
        return _pool_traced(hidden[0], how, cu_seqlens)
    if cu_seqlens is not None:
        lengths: list[int] = cu_seqlens.diff().tolist()
        parts = hidden[0].split(lengths)
        if how == "cls":
            parts = tuple(part[:1] for part in parts)
        means = [part.sum(0) / max(1, len(part)) for part in parts]
        return torch.stack(means) if means else hidden.new_zeros(0, hidden.shape[-1])
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    if how == "cls":
        mask = mask & (mask.to(torch.int64).cumsum(-1) == 1)
    real = hidden.masked_fill(~mask[..., None], 0.0)
    return real.sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(hidden.dtype)


def _pool_traced(
    hidden: Float[Tensor, "T D"], how: Pooling, cu_seqlens: Int[Tensor, " S1"]
) -> Float[Tensor, "S D"]:
    """``pool`` of a packed batch without reading lengths on the host: for graphs."""
    lengths = cu_seqlens.diff()
    if how == "cls":
        starts = cu_seqlens[:-1].to(torch.int64).clamp(max=hidden.shape[0] - 1)
        return hidden.index_select(0, starts).masked_fill(lengths[:, None] == 0, 0.0)
    # Not index_add: ONNX Runtime's translation of it has a data race (docs/log.md).
    rows = segment_ids(cu_seqlens, hidden.shape[0])[:, None].expand_as(hidden)
    sums = hidden.new_zeros(cu_seqlens.shape[0] - 1, hidden.shape[1]).scatter_add(0, rows, hidden)
    return sums / lengths.clamp(min=1)[:, None].to(hidden.dtype)


def normalize(vectors: Float[Tensor, "S E"]) -> EmbeddingOutput:
    """Split vectors into direction and length, in float32 at least; zero stays zero."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    return EmbeddingOutput(vectors / norms.clamp(min=1e-12)[:, None], norms)
