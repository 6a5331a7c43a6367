"""Positions of tokens, and rotary embeddings of them.

Shapes: B batch, N tokens, H heads, D head width.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.functional.varlen import count_up, segment_ids

LEAST_KEPT, MOST_KEPT = 512, 65_536
"""Positions of the smallest and the largest table of rotary positions that is kept."""


def token_positions(
    length: int | torch.SymInt,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    device: torch.device,
) -> Int[Tensor, "B N"]:
    """Place of each token in its own sequence, counted from 0 [tokens].

    Args:
        length: Tokens of the batch, N.
        mask: True at real tokens of a padded batch, bool [B, N].
        cu_seqlens: Offsets of a packed batch, integers [S + 1].
        device: Of the result.
    """
    if mask is not None:
        return (mask.to(torch.int64).cumsum(-1) - 1).clamp(min=0)
    if cu_seqlens is None:
        return count_up(length, device)[None]
    if torch.compiler.is_compiling():
        starts = cu_seqlens[:-1].to(torch.int64).index_select(0, segment_ids(cu_seqlens, length))
    elif cu_seqlens.device.type == "cpu":  # a few calls of numpy cost less than torch's
        offsets = cu_seqlens.numpy().astype(np.int64)
        starts = torch.from_numpy(np.repeat(offsets[:-1], np.diff(offsets)))
    else:
        starts = cu_seqlens[:-1].to(torch.int64)
        starts = starts.repeat_interleave(cu_seqlens.diff(), output_size=length)
    return (count_up(length, device) - starts)[None]


def rotary_table(
    positions: Int[Tensor, "B N"], head_dim: int, theta: float, divisor: float = 1.0
) -> tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]]:
    """Cosines and sines of position / (divisor theta^(2i/d)), computed in float32.

    Args:
        positions: Of the tokens.
        head_dim: Width of a head, d.
        theta: Base of the wavelengths.
        divisor: Stretches every wavelength.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = theta ** (-exponents / head_dim)
    if divisor != 1.0:
        frequencies = frequencies / divisor
    angles = positions.unsqueeze(-1).to(torch.float32) * frequencies
    return angles.cos(), angles.sin()


def look_up_rotary(
    positions: Int[Tensor, "B N"],
    longest: int,
    head_dim: int,
    theta: float,
    divisor: float = 1.0,
) -> tuple[Float[Tensor, "B N half"], Float[Tensor, "B N half"]]:
    """``rotary_table``, on CPUs from a table that is kept.

    On a GPU such a table could be in the memory of one captured graph and be read by others.

    Args:
        positions: Of the tokens, below ``longest``.
        longest: Tokens of the longest sequence.
        head_dim: As for ``rotary_table``.
        theta: As for ``rotary_table``.
        divisor: As for ``rotary_table``.
    """
    if longest > MOST_KEPT or type(positions) is not Tensor or positions.device.type != "cpu":
        return rotary_table(positions, head_dim, theta, divisor)
    length = max(LEAST_KEPT, 1 << (longest - 1).bit_length())
    cosines, sines = _kept_table(length, head_dim, theta, divisor)
    return F.embedding(positions, cosines), F.embedding(positions, sines)


@functools.lru_cache(maxsize=16)
def _kept_table(
    length: int, head_dim: int, theta: float, divisor: float
) -> tuple[Float[Tensor, "N half"], Float[Tensor, "N half"]]:
    with torch.inference_mode(False), torch.no_grad():  # training may read it as well
        cosines, sines = rotary_table(torch.arange(length)[None], head_dim, theta, divisor)
    return cosines[0], sines[0]


def rotate(
    states: Float[Tensor, "B N H D"],
    cosine: Float[Tensor, "#B N half"],
    sine: Float[Tensor, "#B N half"],
) -> Float[Tensor, "B N H D"]:
    """Rotary positions (arXiv:2104.09864), halves convention."""
    cosine, sine = (part[:, :, None, :].to(states.dtype) for part in (cosine, sine))
    left, right = states.chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1)
