"""Softmax attention, the control in every comparison (arXiv:1706.03762)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from osa.model.mixers.base import Mixer, TokenContext
from osa.model.varlen import bucket_sequences, check_cu_seqlens, gather


class SoftmaxMixer(Mixer):
    """softmax(Q K^T / sqrt(d)) V by torch's scaled_dot_product_attention."""

    def mix_heads(
        self, query: Tensor, key: Tensor, value: Tensor, context: TokenContext
    ) -> Tensor:
        """Attend within each sequence; packed batches run bucket by bucket."""
        if context.cu_seqlens is None:
            mask = None if context.mask is None else context.mask[:, None, None, :]
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        offsets = check_cu_seqlens(context.cu_seqlens, query.shape[2])
        tokens = query.new_zeros(query.shape[2], query.shape[1], query.shape[3])
        for bucket in bucket_sequences(offsets, query.device):
            parts = (gather(states, bucket) for states in (query, key, value))
            mask = None if bucket.mask is None else bucket.mask[:, None, None, :]
            block = F.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(1, 2)
            if bucket.mask is None:
                index, cells = bucket.index.reshape(-1), block.flatten(0, 1)
            else:
                index, cells = bucket.index[bucket.mask], block[bucket.mask]
            tokens = tokens.index_copy(0, index, cells)
        return tokens.transpose(0, 1)[None]
