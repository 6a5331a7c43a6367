"""Orthogonal Self-Attention as a token mixer (arXiv:2602.05996)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from osa.model import kernels, ops
from osa.model.config import EncoderConfig
from osa.model.functional.parts import SequencePart, osa_part
from osa.model.kernels.native_pass import OsaMixing
from osa.model.layers.mixers.base import AttentionMixer, TokenContext
from osa.model.layers.mixers.completion import Completion
from osa.model.layers.mixers.sums.completed_sums import CompletedSums
from osa.model.layers.mixers.sums.osa_sums import osa_sums
from osa.model.layers.mixers.sums.token_sums import TokenSums


class OsaMixer(AttentionMixer):
    """exp(S) V with one learnable angle ``alpha`` per head, and what completes it if asked for."""

    calls_attention = traces_packed = accepts_empty_rows = has_completion = drops_vo = True
    unshared = "has scores S = Q K' - K Q', which are 0 where both are the same"

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create projections and angles."""
        super().__init__(config, layer)
        self.scale, self.center = config.scale, config.center
        self.alpha = nn.Parameter(torch.full((config.num_heads,), config.alpha_init))
        self.completion = Completion(config) if config.is_completed else None
        if self.completion is not None and self.completion.num_sides:
            sides = config.num_heads * self.completion.num_sides
            self.side = nn.Linear(config.hidden_size, sides)

    @classmethod
    def name_kernel(cls, device: str, dtype: torch.dtype, head_dim: int) -> str:
        """The implementation of ``osa::attention``."""
        return kernels.describe(device, dtype, head_dim)

    def native_mixing(self) -> OsaMixing:
        """With angles as they are now."""
        alpha = self.alpha.detach().float().contiguous()
        completion = None if self.completion is None else self.completion.weights()
        return OsaMixing(alpha, self.scale, self.center, completion)

    def token_sums(self, dtype: torch.dtype) -> TokenSums:
        """G and T, and pooled values, with angles and weights as they are now."""
        sums = osa_sums(self.alpha.detach(), self.scale, self.center, self.head_dim, dtype)
        if self.completion is None:
            return sums
        return CompletedSums(sums, self.completion.weights(), self.head_dim)

    def mix_part(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        part: SequencePart,
        side: Tensor | None = None,
    ) -> Tensor:
        """One sum over the processes; one more each for pooled values and for neighbours."""
        mixed = osa_part(query, key, value, self.alpha, part, self.scale, self.center)
        return (
            mixed if self.completion is None else self.completion.mix_part(mixed, value, side, part)
        )

    def mix_heads(self, query: Tensor, key: Tensor, value: Tensor, context: TokenContext) -> Tensor:
        """Call the operator ``osa::attention``, and complete what it gives."""
        if self.operand_dtype is not None:
            query, key, value = (part.to(self.operand_dtype) for part in (query, key, value))
        places = context.mask, context.cu_seqlens, self.scale, self.center
        states = query, key, value, self.alpha
        completion = self.completion
        if completion is None:
            return cast("Tensor", ops.attention(*states, *places))
        if torch.is_grad_enabled() or value.device.type != "cpu":
            mixed: Tensor = ops.attention(*states, *places)
            return cast("Tensor", completion(mixed, value, context.side, context))
        *weights, gated = completion.terms
        return cast(
            "Tensor", ops.completed_attention(*states, *weights, context.side, *places, gated)
        )
