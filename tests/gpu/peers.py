"""Encoders to compare with: softmax attention by flash kernels, and transformers' BERT.

All sequences of a batch have one length, so neither pads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.gpu.steps import CannotError


class FlashBlock(nn.Module):
    """A pre-norm block of softmax attention: the same products, norms and skips as ours."""

    def __init__(self, width: int, heads: int) -> None:
        """Create the layers."""
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the next states [B, N, D]."""
        batch, length, width = hidden.shape
        joint = self.qkv(self.first(hidden)).view(batch, length, 3, self.heads, -1)
        query, key, value = (part.transpose(1, 2) for part in joint.unbind(2))
        mixed = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        inner: Tensor = self.down(F.gelu(self.up(self.second(hidden))))
        return hidden + inner


def flash_encoder(
    width: int, layers: int, batch: int, length: int, device: str
) -> Callable[[], object]:
    """A call of an encoder of softmax attention, by a flash kernel on CUDA."""
    dtype = torch.bfloat16
    blocks = nn.Sequential(*(FlashBlock(width, 12) for _ in range(layers)))
    blocks = blocks.to(device, dtype).eval()
    table = nn.Embedding(30522, width).to(device, dtype)
    ids = torch.ones(batch, length, dtype=torch.long, device=device)

    def call() -> object:
        backends = [torch.nn.attention.SDPBackend.FLASH_ATTENTION]
        with torch.inference_mode(), torch.nn.attention.sdpa_kernel(backends):
            return F.normalize(blocks(table(ids)).mean(1).float(), dim=-1)

    return call


def bert(width: int, layers: int, batch: int, length: int, device: str) -> Callable[[], object]:
    """A call of transformers' BERT of this size.

    Raises:
        CannotError: transformers is not installed.
    """
    try:
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise CannotError("transformers is not installed") from error
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=12,
        intermediate_size=4 * width, max_position_embeddings=max(512, length),
    )  # fmt: skip
    model: nn.Module = BertModel(config, add_pooling_layer=False)
    model = model.to(device, torch.bfloat16).eval()
    ids = torch.ones(batch, length, dtype=torch.long, device=device)

    def call() -> object:
        with torch.inference_mode():
            return F.normalize(model(ids).last_hidden_state.mean(1).float(), dim=-1)

    return call
