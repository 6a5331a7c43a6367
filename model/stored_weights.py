"""Types that weights are stored in: floating-point, or 8-bit integers with a scale a row.

As ``int8`` a matrix is stored as integers from -127 to 127 and, beside it under its name and
``SCALE``, one float32 for each of its rows, so that row = scale * integers: a quarter of float32's
bytes, half of float16's. The error is at most half a scale, 0.4 % of the row's largest value.
What is no matrix, or small, is stored as float16. Integers of linear layers are those that
``model.dtype=int8`` computes with, so that nothing more is lost there; tables of embeddings, which
it keeps as they are, lose about as much again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from osa.model.errors import CheckpointError

STORED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Of weights that are stored as they are."""
SCALE = ".row_scale"
"""What a matrix's scales have after its name."""
LEAST = 4096
"""Values of the smallest matrix that is stored as integers."""
LARGEST = 127


def to_stored(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Tensors as they are written, in ``dtype``; None keeps their own types.

    Raises:
        CheckpointError: A value is not finite, or becomes infinite in ``dtype``.
    """
    rest = torch.float16 if dtype == torch.int8 else dtype
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        values = tensor.detach().cpu()
        if dtype == torch.int8 and values.ndim == 2 and values.numel() >= LEAST:
            _check_finite(name, values)
            stored[name], stored[name + SCALE] = quantize_rows(values)
            continue
        stored[name] = values.to(rest or values.dtype).contiguous()
        _check_finite(name, stored[name])
    return stored


def from_stored(stored: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The tensors of a file; those of integers in float32, others as they are.

    Args:
        stored: Tensors by name, as in the file.
        source: The file, for messages.

    Raises:
        CheckpointError: Integers have no scales of their rows, or scales are of nothing.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            of = stored.get(name.removesuffix(SCALE))
            if of is None or of.dtype != torch.int8:
                raise CheckpointError(f"{source}: {name} is the scale of no integers")
            continue
        if tensor.dtype != torch.int8:
            weights[name] = tensor
            continue
        scale = stored.get(name + SCALE)
        if scale is None:
            raise CheckpointError(f"{source}: {name} is int8 and has no {name + SCALE}")
        if tensor.ndim != 2 or scale.shape != tensor.shape[:1] or scale.dtype != torch.float32:
            raise CheckpointError(
                f"{source}: {name} is int8 of shape {tuple(tensor.shape)}, its scale is "
                f"{scale.dtype} of shape {tuple(scale.shape)}: allowed is a matrix with one "
                "float32 a row"
            )
        weights[name] = tensor.to(torch.float32).mul_(scale[:, None])
    return weights


def quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Integers [n, m] and the scales [n] of the rows of a matrix [n, m].

    A row of zeros has the scale 0.
    """
    values = matrix.to(torch.float32)
    scale = values.abs().amax(dim=1) / LARGEST
    steps = torch.where(scale > 0.0, scale, torch.ones_like(scale))
    codes = (values / steps[:, None]).round_().clamp_(-LARGEST, LARGEST)
    return codes.to(torch.int8), scale


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{name} has a value that is not finite in {tensor.dtype}")
