"""Correlations and convolutions over the tokens of a sequence, in O(N log N) by FFT.

Weights and sums by **offset** s are in ascending order, from -L, which no two tokens have, to
L - 1. Sequences are not periodic: they are padded with zeros to at least twice their length. Short
ones are computed as matrices by diagonals, which is faster, and for which FFT libraries have other
algorithms by number of threads: a sequence's bits then depend on its own width alone.

Shapes: S sequences, L width of a rectangle, H heads, d head width, R = 2 L offsets.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

DIRECT_WIDTH = 64
"""Widest rectangle that is computed by diagonals [tokens]."""
LEAST_TRANSFORM = 256
"""Shortest FFT [tokens]."""
AT_ONCE = 1 << 18
"""Numbers that are transformed at once in inference: they stay in cache."""


def signed_offsets(width: int | torch.SymInt, device: torch.device) -> Int[Tensor, " R"]:
    """-L to L - 1."""
    return torch.arange(2 * width, device=device) - width  # type: ignore[arg-type, operator]


def correlate(
    left: Float[Tensor, "S H L D"], right: Float[Tensor, "S H L D"]
) -> Float[Tensor, "S H R"]:
    """By offset s, the sum over tokens i of left_i . right_(i + s).

    Args:
        left: Zero where padded.
        right: Zero where padded.
    """
    width = left.shape[2]
    if _is_short(width):
        return _sum_diagonals(left @ right.transpose(-1, -2))
    size = transform_length(width)
    products = [
        (torch.fft.rfft(first, n=size).conj() * torch.fft.rfft(second, n=size)).sum(-2)
        for first, second in zip(_channels(left, size), _channels(right, size), strict=True)
    ]
    wrapped = torch.fft.irfft(functools.reduce(torch.add, products), n=size)
    return torch.cat([wrapped[..., size - width :], wrapped[..., :width]], -1)


def weigh_offsets(
    weights: Float[Tensor, "#S H #D R"], states: Float[Tensor, "S H L D"]
) -> Float[Tensor, "S H L D"]:
    """o_i = sum over offsets s of w_s x_(i + s), zero beyond the ends.

    Args:
        weights: By head, and by channel or for all channels alike.
        states: x, zero where padded.
    """
    width = states.shape[2]
    by_channel = weights.shape[2] > 1
    if _is_short(width) and not by_channel:
        places = torch.arange(width, device=states.device)
        return weights[:, :, 0, places - places[:, None] + width] @ states
    if _is_short(2 * width) and by_channel:
        return _shift_and_add(weights, states)
    size = transform_length(width)
    gap = weights.new_zeros(*weights.shape[:-1], size - 2 * width)
    wrapped = torch.cat([weights[..., width:], gap, weights[..., :width]], -1)
    spectrum = torch.fft.rfft(wrapped, n=size).conj()
    parts = _channels(states, size)
    spectra = [spectrum] * len(parts)
    if by_channel and len(parts) > 1:  # complex tensors are not cut in traced graphs
        spectra = [*spectrum.split([part.shape[2] for part in parts], 2)]
    found = [
        torch.fft.irfft(own * torch.fft.rfft(part, n=size), n=size)[..., :width]
        for own, part in zip(spectra, parts, strict=True)
    ]
    joined = found[0] if len(found) == 1 else torch.cat(found, 2)
    return joined.transpose(-1, -2)


def transform_length(width: int | torch.SymInt) -> Any:
    """A length from ``2 width`` on of few small prime factors, for FFTs."""
    if torch.compiler.is_compiling() or not isinstance(width, int):
        return 2 * width  # a symbol
    step = max(1, 1 << (2 * width - 1).bit_length() - 3)
    return max(LEAST_TRANSFORM, -(-2 * width // step) * step)


def _is_short(width: int | torch.SymInt) -> bool:
    return not torch.compiler.is_compiling() and width <= DIRECT_WIDTH


def _channels(states: Float[Tensor, "S H L D"], size: Any) -> tuple[Tensor, ...]:
    """Some channels after others, tokens last [S, H, d, L]; all at once but in inference."""
    turned = states.transpose(-1, -2)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return (turned,)
    parts: tuple[Tensor, ...] = turned.contiguous().split(max(1, AT_ONCE // size), 2)
    return parts


def _sum_diagonals(square: Float[Tensor, "S H L L"]) -> Float[Tensor, "S H R"]:
    """Sums along the diagonals j - i = s: rows are shifted so that each becomes a column."""
    width = square.shape[-1]
    flat = F.pad(square.flip(-2), (0, width)).flatten(-2)[..., : width * (2 * width - 1)]
    return F.pad(flat.unflatten(-1, (width, 2 * width - 1)).sum(-2), (1, 0))


def _shift_and_add(weights: Tensor, states: Tensor) -> Tensor:
    """The sum of ``weigh_offsets``, offset by offset."""
    width = states.shape[2]
    wide = F.pad(states, (0, 0, width, width - 1))
    total = torch.zeros_like(states)
    for place, weight in enumerate(weights.unbind(-1)):
        total = total + wide[:, :, place : place + width] * weight[:, :, None]
    return total
