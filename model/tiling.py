"""Long inputs in tiles of tokens, so that inner activations stay in cache and in reused memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOKEN_TILE = 1024
"""Tokens that token-wise work takes at once in inference."""


def by_tiles(function: Callable[..., tuple[Tensor, ...]], *operands: Tensor) -> tuple[Tensor, ...]:
    """Apply a token-wise function along dimension 1, tile by tile where that changes nothing.

    Args:
        function: From tensors [B, n, ...] to tensors [B, n, ...], each token by itself.
        operands: Tensors [B, N, ...].

    Returns:
        What ``function`` returns for all tokens at once. With gradients, or in traced code, it
        is called once: tiles would only add to what is stored.
    """
    length = operands[0].shape[1]
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or length <= TOKEN_TILE:
        return function(*operands)
    tiles = zip(*(operand.split(TOKEN_TILE, dim=1) for operand in operands), strict=True)
    results = zip(*(function(*tile) for tile in tiles), strict=True)
    return tuple(torch.cat(parts, dim=1) for parts in results)
