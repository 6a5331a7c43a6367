"""Softmax attention: BERT-like encoders, and the control in comparisons (arXiv:1706.03762)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.functional.softmax import attend
from osa.model.functional.varlen import Bucket, check_cu_seqlens, map_buckets
from osa.model.kernels import is_allowed, native_softmax
from osa.model.kernels.native import instruction_set
from osa.model.kernels.native_pass import SoftmaxMixing
from osa.model.layers.mixers.base import AttentionMixer, TokenContext


class SoftmaxMixer(AttentionMixer):
    """softmax(Q K^T / sqrt(d) + bias) V, in local layers within ``local_window`` tokens."""

    has_scores = drops_vo = True
    unshared = ""

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections."""
        super().__init__(config, layer)
        self.window = config.local_window if self.local else None

    @classmethod
    def name_kernel(cls, device: str, dtype: torch.dtype, head_dim: int) -> str:
        """The CPU kernel, or torch's attention."""
        with torch.no_grad():
            operands = torch.empty(1, 1, 0, head_dim, dtype=dtype)
            native = device == "cpu" and is_allowed("native") and native_softmax.supports(operands)
        return f"native ({instruction_set()})" if native else "torch"

    def native_mixing(self) -> SoftmaxMixing:
        """Within the window of this layer."""
        return SoftmaxMixing(self.window)

    def mix_heads(self, query: Tensor, key: Tensor, value: Tensor, context: TokenContext) -> Tensor:
        """Attend within each sequence; packed batches by the CPU kernel, or bucket by bucket.

        Like the operator of the OSA mixer it computes in the operands' own type under autocast.
        """
        if self.operand_dtype is not None:
            query, key, value = (part.to(self.operand_dtype) for part in (query, key, value))
        with torch.autocast(query.device.type, enabled=False):
            return self._attend(query, key, value, context)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, context: TokenContext) -> Tensor:
        bias, window = context.bias, self.window
        if context.cu_seqlens is None:
            return attend(query, key, value, context.mask, bias, window)
        known = context.cu_seqlens if context.offsets is None else context.offsets
        offsets = check_cu_seqlens(known, query.shape[2])
        if is_allowed("native") and native_softmax.supports(query):
            longest = max((stop - start for start, stop in itertools.pairwise(offsets)), default=0)
            line = None if bias is None else bias.by_distance(max(1, longest))
            return native_softmax.attend_packed(query, key, value, context.cu_seqlens, line, window)

        def run(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
            part_query, part_key, part_value = parts
            return (attend(part_query, part_key, part_value, bucket.mask, bias, window),)

        # a bias beside padding would be as large as all scores of the batch
        exact = bias is not None
        return map_buckets((query, key, value), offsets, run, 1, exact)[0]
