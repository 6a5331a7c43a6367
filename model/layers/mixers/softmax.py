"""Softmax attention, the control in every comparison (arXiv:1706.03762)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.functional.varlen import Bucket, check_cu_seqlens, map_buckets
from osa.model.layers.mixers.base import Mixer, TokenContext


class SoftmaxMixer(Mixer):
    """softmax(Q K^T / sqrt(d)) V by torch's scaled_dot_product_attention."""

    def mix_heads(self, query: Tensor, key: Tensor, value: Tensor, context: TokenContext) -> Tensor:
        """Attend within each sequence; packed batches run bucket by bucket.

        Like the operator of the OSA mixer it computes in the operands' own type under autocast.
        """
        with torch.autocast(query.device.type, enabled=False):
            return self._attend(query, key, value, context)

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, context: TokenContext) -> Tensor:
        if context.cu_seqlens is None:
            mask = None if context.mask is None else context.mask[:, None, None, :]
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        offsets = check_cu_seqlens(context.cu_seqlens, query.shape[2])

        def attend(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
            mask = None if bucket.mask is None else bucket.mask[:, None, None, :]
            part_query, part_key, part_value = parts
            return (
                F.scaled_dot_product_attention(part_query, part_key, part_value, attn_mask=mask),
            )

        return map_buckets((query, key, value), offsets, attend, 1)[0]
