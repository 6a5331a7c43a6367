"""Sums of Orthogonal Self-Attention over tokens: G = M^T M and T = M^T V, M = [Q K].

By the CPU kernel where it is built, otherwise by torch, then with sums and weights in double.

Shapes: n tokens of a chunk, H heads, d head width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.attention import FLOAT64_BOUND, gram_matrix, j_times, times_j
from osa.model.functional.phi1 import choose_plan, operator_norm_bound, phi1_action
from osa.model.kernels import native_stream
from osa.model.kernels.native_stream import APPLY, MEANS, SUM_TILE, SUMS
from osa.model.layers.mixers.sums.token_sums import ChunkStates, Exchange, TokenSums, as_floats


def osa_sums(
    alpha: Float[Tensor, " H"], scale: str, center: bool, head_dim: int, dtype: torch.dtype
) -> TokenSums:
    """Sums of no tokens, by whatever computes them.

    Args:
        alpha: Angle of each head, on the device of the states.
        scale: ``paper`` or ``length``.
        center: Whether means of queries and keys are subtracted.
        head_dim: Width of a head.
        dtype: Of the states.
    """
    if native_stream.supports(alpha.device, dtype, head_dim):
        return _NativeSums(alpha, scale, center, head_dim, dtype)
    return _TorchSums(alpha, scale, center, head_dim)


class _NativeSums(TokenSums):
    """By the CPU kernel: in float32, heads of large angles once more in double."""

    def __init__(
        self, alpha: Tensor, scale: str, center: bool, head_dim: int, dtype: torch.dtype
    ) -> None:
        self._chunks = native_stream.Chunks(alpha, scale, center, head_dim)
        self._dtype = dtype
        self._stage, self._turn = MEANS if center else SUMS, 0

    def add(self, chunk: ChunkStates) -> None:
        self._chunks.over(self._stage, chunk.query, chunk.key, chunk.value, self._turn)

    def exchange(self, exchange: Exchange) -> None:
        kept = self._chunks.kept
        if self._stage == SUMS:
            self._chunks.close_sums(self._dtype, self._turn)
        if not self._turn:
            exchange(kept.means if self._stage == MEANS else kept.sums, "sum")
            return
        precise = kept.precise.bool()
        again = kept.sums[precise]
        exchange(again, "sum")
        kept.sums[precise] = again

    def close(self, count: int) -> bool:
        kept = self._chunks.kept
        if self._stage == MEANS:
            kept.means.div_(max(1, count))
            self._stage = SUMS
            return False
        self._chunks.make_weights(self._dtype, count, self._turn)
        if self._turn or not kept.precise.any():
            return True
        kept.sums[kept.precise.bool()] = 0.0
        self._turn = 1
        return False

    def apply(self, chunk: ChunkStates) -> Tensor:
        mixed = self._chunks.over(APPLY, chunk.query, chunk.key, chunk.value)
        assert mixed is not None  # APPLY returns it
        return mixed

    @property
    def exchanged(self) -> int:
        return self._chunks.kept.sums.nbytes


class _TorchSums(TokenSums):
    """By torch, on any device."""

    def __init__(self, alpha: Tensor, scale: str, center: bool, head_dim: int) -> None:
        heads = len(alpha)
        self._factor = alpha.detach().double() / math.sqrt(head_dim)
        self._by_length, self._adds_means = scale == "length", center
        self._means = self._factor.new_zeros(2, heads, 1, head_dim)
        self._sums = self._factor.new_zeros(heads, 2 * head_dim, 3 * head_dim)
        self._weights = self._factor.new_zeros(heads, 2 * head_dim, head_dim)
        self._hard = torch.zeros(heads, dtype=torch.bool, device=alpha.device)

    def add(self, chunk: ChunkStates) -> None:
        query, key, value = as_floats(chunk, torch.float64)
        query_mean, key_mean = self._means
        for start in range(0, query.shape[1], SUM_TILE):
            tile = slice(start, start + SUM_TILE)
            q, k, v = query[:, tile], key[:, tile], value[:, tile]
            if self._adds_means:
                query_mean += q.sum(1, keepdim=True)
                key_mean += k.sum(1, keepdim=True)
                continue
            q, k = q - query_mean, k - key_mean
            moment = torch.cat([q.mT @ v, k.mT @ v], dim=-2)
            self._sums += torch.cat([gram_matrix(q, k), moment], dim=-1)

    def exchange(self, exchange: Exchange) -> None:
        exchange(self._means if self._adds_means else self._sums, "sum")

    def close(self, count: int) -> bool:
        if self._adds_means:
            self._means /= max(1, count)
            self._adds_means = False
            return False
        scale = (self._factor / max(1, count) if self._by_length else self._factor)[:, None, None]
        gram, moment = self._sums.split([self._sums.shape[1], self._weights.shape[2]], dim=-1)
        matrix = scale * times_j(gram)
        bound = operator_norm_bound(matrix)
        plan = choose_plan(bound, matrix.dtype)
        self._weights = scale * j_times(phi1_action(matrix, moment, bound, plan))
        self._hard = bound > FLOAT64_BOUND
        return True

    def apply(self, chunk: ChunkStates) -> Tensor:
        dtype = chunk.value.dtype
        low = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        mixed = self._applied(chunk, low)
        if low != torch.float64 and bool(self._hard.any()):
            mixed = torch.where(
                self._hard[:, None, None], self._applied(chunk, torch.float64), mixed
            )
        return mixed.transpose(0, 1).to(dtype)

    def _applied(self, chunk: ChunkStates, dtype: torch.dtype) -> Tensor:
        query, key, value = as_floats(chunk, dtype)
        query_mean, key_mean = self._means.to(dtype)
        query_weight, key_weight = self._weights.to(dtype).chunk(2, dim=-2)
        turned = (query - query_mean) @ query_weight + (key - key_mean) @ key_weight
        mixed: Tensor = value + turned
        return mixed

    @property
    def exchanged(self) -> int:
        return self._sums.nbytes
