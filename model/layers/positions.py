"""Positions of tokens, and rotary embeddings of them.

Shapes: B batch, N tokens, H heads, D head width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.functional.varlen import count_up, segment_ids


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
    places = count_up(length, device)
    if cu_seqlens is not None:
        starts = cu_seqlens[:-1].to(torch.int64)
        if torch.compiler.is_compiling():
            places = places - starts.index_select(0, segment_ids(cu_seqlens, length))
        else:
            places = places - starts.repeat_interleave(cu_seqlens.diff(), output_size=length)
    return places[None]


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
    angles = positions[..., None].to(torch.float32) * frequencies
    return angles.cos(), angles.sin()


def rotate(
    states: Float[Tensor, "B N H D"],
    cosine: Float[Tensor, "#B N half"],
    sine: Float[Tensor, "#B N half"],
) -> Float[Tensor, "B N H D"]:
    """Rotary positions (arXiv:2104.09864), halves convention."""
    cosine, sine = (part[:, :, None, :].to(states.dtype) for part in (cosine, sine))
    left, right = states.chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1)
