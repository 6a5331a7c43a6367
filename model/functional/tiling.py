"""Long inputs in tiles of tokens, and numbers of rows that suit the libraries that multiply.

Tiles keep inner activations in cache and in reused memory. Rows are rounded up since oneDNN
compiles a bfloat16 product anew for every number of rows (2.4 ms and 1.3 MB, 1024 of them kept),
and MKL, on processors of other vendors than its own, sums the last rows in another order where
their number is no multiple of ``ROW_MULTIPLE`` (decision 23).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN_TILE = 1024
"""Tokens that token-wise work takes at once in inference."""
ROW_STEP, STEPS_AN_OCTAVE = 16, 8
"""Rows of an AMX tile, and into how many sizes a range from n to 2n is cut where that is more."""
ROW_MULTIPLE = 4
"""Rows of a float32 product are a multiple of it wherever the order of sums is to be fixed."""


def rounded_rows(count: int) -> int:
    """The least of few numbers (32 up to ``TOKEN_TILE``) that is not below ``count`` [rows].

    At most an eighth more, or a tile of ``ROW_STEP`` filled up. Above ``TOKEN_TILE`` it is full
    tiles and the rest rounded.
    """
    full, rest = divmod(count, TOKEN_TILE)
    octave = 1 << max(rest - 1, 0).bit_length()  # least power of two that is not below the rest
    step = max(ROW_STEP, octave // 2 // STEPS_AN_OCTAVE)
    return full * TOKEN_TILE + -(-rest // step) * step


def round_rows(rows: Tensor) -> Tensor:
    """``rows`` [n, ...] with zero rows added, [rounded_rows(n), ...]; itself where none are."""
    missing = rounded_rows(len(rows)) - len(rows)
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def missing_rows(count: int | torch.SymInt, like: Tensor) -> int:
    """Rows to add to ``count`` [rows] so that float32 products of them have fixed bits.

    None on other devices than CPUs, nor in training and traced code, where batches are what they
    are.
    """
    if like.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return 0
    return -int(count) % ROW_MULTIPLE


def project_rows(layer: nn.Linear, rows: Tensor) -> Tensor:
    """``layer`` of rows [n, K]: each row has the same bits beside any others."""
    missing = missing_rows(rows.shape[0], rows)
    if not missing:
        projected: Tensor = layer(rows)
        return projected
    filled: Tensor = layer(F.pad(rows, (0, 0, 0, missing)))
    return filled[:-missing]


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
