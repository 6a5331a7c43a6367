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
from osa.model.kernels import gpu, native_pool


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
    """One state a sequence. Empty sequences give zeros.

    Args:
        hidden: States of every token.
        how: ``mean`` over the tokens, the first token (``cls``), the ``last`` one, or the mean
            ``weighted`` by places, 1 to N.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch (then B = 1), or None.
    """
    if cu_seqlens is not None and torch.compiler.is_compiling():
        return _pool_traced(hidden[0], how, cu_seqlens)
    if cu_seqlens is not None and native_pool.supports(hidden[0]):
        return native_pool.pool_packed(hidden[0], how, cu_seqlens)
    if cu_seqlens is not None and gpu.pools(hidden[0]):
        offsets = cu_seqlens.to(hidden.device, non_blocking=True)
        return gpu.pool_packed(hidden[0], how, offsets)
    if cu_seqlens is not None:
        return _pool_packed(hidden[0], how, cu_seqlens)
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    places = mask.to(torch.int64).cumsum(-1)
    if how == "cls":
        mask = mask & (places == 1)
    elif how == "last":
        mask = mask & (places == places[:, -1:])
    real = hidden.masked_fill(~mask[..., None], 0.0)
    if how == "weighted":
        weights = (places * mask).to(hidden.dtype)
        return (real * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)
    return real.sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(hidden.dtype)


def _pool_packed(
    hidden: Float[Tensor, "T D"], how: Pooling, cu_seqlens: Int[Tensor, " S1"]
) -> Float[Tensor, "S D"]:
    lengths: list[int] = cu_seqlens.diff().tolist()
    parts = hidden.split(lengths)
    if how == "weighted":
        weights = [place_weights(length).to(hidden) for length in lengths]
        parts = tuple(part * weight[:, None] for part, weight in zip(parts, weights, strict=True))
        sums = [part.sum(0) for part in parts]
        return torch.stack(sums) if sums else hidden.new_zeros(0, hidden.shape[-1])
    if how != "mean":
        parts = tuple(part[:1] if how == "cls" else part[-1:] for part in parts)
    means = [part.sum(0) / max(1, len(part)) for part in parts]
    return torch.stack(means) if means else hidden.new_zeros(0, hidden.shape[-1])


def place_weights(length: int) -> Float[Tensor, " N"]:
    """Weights of ``weighted`` pooling, 1 to N over their sum, float32."""
    places = torch.arange(1, length + 1, dtype=torch.float32)
    return places / max(1.0, length * (length + 1) / 2)


def _pool_traced(
    hidden: Float[Tensor, "T D"], how: Pooling, cu_seqlens: Int[Tensor, " S1"]
) -> Float[Tensor, "S D"]:
    """``pool`` of a packed batch without reading lengths on the host: for graphs."""
    lengths = cu_seqlens.diff()
    total, count = hidden.shape[0], cu_seqlens.shape[0] - 1
    if how in ("cls", "last"):
        ends = cu_seqlens[:-1] if how == "cls" else cu_seqlens[1:] - 1
        chosen = ends.to(torch.int64).clamp(min=0, max=total - 1)
        return hidden.index_select(0, chosen).masked_fill(lengths[:, None] == 0, 0.0)
    segments = segment_ids(cu_seqlens, total)
    divisors = lengths.to(torch.int64)
    if how == "weighted":
        starts = cu_seqlens[:-1].to(torch.int64).index_select(0, segments)
        places = torch.arange(total, device=hidden.device) - starts + 1
        hidden = hidden * places[:, None].to(hidden.dtype)
        divisors = divisors * (divisors + 1) // 2
    # Not index_add: ONNX Runtime's translation of it has a data race (docs/log.md).
    rows = segments[:, None].expand_as(hidden)
    sums = hidden.new_zeros(count, hidden.shape[1]).scatter_add(0, rows, hidden)
    return sums / divisors.clamp(min=1)[:, None].to(hidden.dtype)


def normalize(vectors: Float[Tensor, "S E"]) -> EmbeddingOutput:
    """Split vectors into direction and length, in float32 at least; zero stays zero."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    return EmbeddingOutput(vectors / norms.clamp(min=1e-12)[:, None], norms)


def as_they_are(values: Float[Tensor, "S E"]) -> EmbeddingOutput:
    """What a head computes, with lengths of 1."""
    return EmbeddingOutput(values, values.new_ones(values.shape[0]))
