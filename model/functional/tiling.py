"""Tiles of tokens for long inputs, and numbers of rows for matrix products: on CPUs.

Tiles keep inner activations in cache and in reused memory; a GPU would only launch more. Rows are
rounded up since oneDNN compiles a bfloat16 product anew for every number of rows, and MKL, on
processors of other vendors, sums the last rows in another order where their number is not a
multiple of ``ROW_MULTIPLE`` (decision 23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN_TILE = 1024
"""Tokens of one tile in inference."""
ROW_STEP, STEPS_AN_OCTAVE = 16, 8
"""Rows of an AMX tile, and number of sizes between n and 2n where their steps are larger."""
ROW_MULTIPLE = 4
"""Float32 products have a multiple of so many rows where the order of sums must be fixed."""


def rounded_rows(count: int) -> int:
    """The next of few sizes (32 up to ``TOKEN_TILE``) from ``count`` [rows] on.

    At most an eighth more, or a multiple of ``ROW_STEP``. Above ``TOKEN_TILE`` it is full tiles
    and the rest rounded.
    """
    full, rest = divmod(count, TOKEN_TILE)
    octave = 1 << max(rest - 1, 0).bit_length()  # least power of two that is not below the rest
    step = max(ROW_STEP, octave // 2 // STEPS_AN_OCTAVE)
    return full * TOKEN_TILE + -(-rest // step) * step


def round_rows(rows: Tensor) -> Tensor:
    """``rows`` [n, ...] padded with zero rows to [rounded_rows(n), ...]."""
    missing = rounded_rows(len(rows)) - len(rows)
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def missing_rows(count: int | torch.SymInt, like: Tensor) -> int:
    """Rows to add to ``count`` [rows] so that float32 products of them have fixed bits.

    0 on other devices than CPUs, with gradients, and in traced code.
    """
    if like.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return 0
    return -int(count) % ROW_MULTIPLE


def project_rows(layer: nn.Linear, rows: Tensor) -> Tensor:
    """``layer`` applied to rows [n, K]; a row's bits do not depend on the other rows."""
    missing = missing_rows(rows.shape[0], rows)
    if not missing:
        projected: Tensor = layer(rows)
        return projected
    filled: Tensor = layer(F.pad(rows, (0, 0, 0, missing)))
    return filled[:-missing]


def by_tiles(function: Callable[..., tuple[Tensor, ...]], *operands: Tensor) -> tuple[Tensor, ...]:
    """Apply a token-wise function along dimension 1, on CPUs in tiles in inference.

    Args:
        function: From tensors [B, n, ...] to tensors [B, n, ...], each token by itself.
        operands: Tensors [B, N, ...].

    Returns:
        What ``function`` returns for all tokens at once. With gradients, or in traced code, it
        is called once, since tiles would only add to what is stored; so it is on a GPU.
    """
    length = operands[0].shape[1]
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or length <= TOKEN_TILE
    if whole or operands[0].device.type != "cpu":
        return function(*operands)
    tiles = zip(*(operand.split(TOKEN_TILE, dim=1) for operand in operands), strict=True)
    results = zip(*(function(*tile) for tile in tiles), strict=True)
    return tuple(torch.cat(parts, dim=1) for parts in results)


def head_by_head(function: Callable[..., Tensor], *operands: Tensor, least: int = 0) -> Tensor:
    """Apply a function of heads one after another in inference, so that its work stays in cache.

    Args:
        function: From contiguous tensors [S, h, ...] of some heads to such a tensor [S, h, L, ...].
        operands: Tensors [S, H, ...].
        least: Size of the last operand's dimension 2 up to which all heads are taken at once.

    Returns:
        Its results [S, H, L, ...], stored token by token where heads came one after another.
    """
    last = operands[-1]
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or last.shape[2] <= least:
        return function(*(part.contiguous() for part in operands))
    heads = last.shape[1]
    joined = None
    for head in range(heads):
        found = function(*(part[:, head : head + 1].contiguous() for part in operands))
        if joined is None:
            shape = (found.shape[0], found.shape[2], heads, *found.shape[3:])
            joined = found.new_empty(shape).transpose(1, 2)
        joined[:, head] = found[:, 0]
    assert joined is not None, "no heads"
    return joined


def token_parts(states: Tensor) -> list[slice]:
    """Consecutive tokens of ``states`` [S, H, L, ...]: tiles on CPUs in inference, or all at once.

    Their bounds follow from L alone, and so does the order of sums over parts.
    """
    length = states.shape[2]
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or length <= TOKEN_TILE
    if whole or states.device.type != "cpu":
        return [slice(None)]
    return [slice(start, start + TOKEN_TILE) for start in range(0, length, TOKEN_TILE)]


def take_part(states: Sequence[Tensor], part: slice) -> tuple[Tensor, ...]:
    """Some tokens of states [S, H, L, ...], contiguous: the order of sums may follow the layout."""
    return tuple(state[:, :, part].contiguous() for state in states)


def join_parts(function: Callable[[slice], Tensor], parts: list[slice], like: Tensor) -> Tensor:
    """The results of a function of parts of tokens, put together as ``like`` [S, H, L, d].

    Args:
        function: From a part to its results [S, H, n, d].
        parts: All parts, as ``token_parts`` gives them.
        like: Of the shape and type of the result, which is stored token by token where there are
            several parts.
    """
    if len(parts) == 1:
        return function(parts[0])
    joined = torch.empty_like(like.transpose(1, 2), memory_format=torch.contiguous_format)
    for part in parts:
        joined[:, part] = function(part).transpose(1, 2)
    return joined.transpose(1, 2)
