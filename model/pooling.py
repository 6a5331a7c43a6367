"""From hidden states to one vector a sequence.

Shapes: B batch, N tokens, S packed sequences, D hidden, E embedding width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.config import Pooling


class EmbeddingOutput(NamedTuple):
    """Unit vectors and the lengths they had, so that the raw vector is their product.

    Attributes:
        embeddings: L2-normalised vectors [S, E].
        norms: Length of each vector before normalising [S].
    """

    embeddings: Float[Tensor, "S E"]
    norms: Float[Tensor, S]


def pool(
    hidden: Float[Tensor, "B N D"],
    how: Pooling,
    mask: Bool[Tensor, "B N"] | None,
    cu_seqlens: Int[Tensor, S1] | None,
) -> Float[Tensor, "S D"]:
    """Mean over each sequence's tokens, or its first token. Empty sequences give zeros."""
    if cu_seqlens is not None:
        if how == "cls":
            return hidden[0].index_select(0, cu_seqlens[:-1].to(torch.int64))
        lengths: list[int] = cu_seqlens.diff().tolist()
        return torch.stack([part.sum(0) / max(1, len(part)) for part in hidden[0].split(lengths)])
    if how == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1)
    weights = mask[..., None].to(hidden.dtype)
    real = hidden.masked_fill(~mask[..., None], 0.0)
    return real.sum(1) / weights.sum(1).clamp(min=1.0)


def normalize(vectors: Float[Tensor, "S E"]) -> EmbeddingOutput:
    """Split vectors into direction and length; a zero vector stays zero."""
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    return EmbeddingOutput(vectors / norms.clamp(min=1e-12)[:, None], norms)
