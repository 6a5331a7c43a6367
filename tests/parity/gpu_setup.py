"""The Triton kernels and their float64 references; in the interpreter where there is no GPU.

Imported before triton is: the interpreter is chosen when kernels are defined.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from osa.model.functional.attention import mask_and_center, osa_dense, osa_gram
from osa.model.kernels import gpu
from osa.model.kernels.gpu import tuning

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # before the first call, which imports triton
if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
DEVICE = "cuda" if CUDA else "cpu"
FORWARD_ERROR = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
BACKWARD_ERROR = {torch.float32: 4e-6, torch.bfloat16: 2.5e-2, torch.float16: 4e-3}
TILES = {dtype: dict(tunings) for dtype, tunings in tuning.TUNINGS.items()}
"""Tile sizes as they are."""
forward: Callable[..., Tensor] = gpu.attention_forward
backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = gpu.attention_backward


def use_small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter: chunks that short sequences are split into, and few, wide pieces."""
    if CUDA:
        return
    monkeypatch.setattr(tuning, "CHUNK", 128)
    for dtype, tunings in tuning.TUNINGS.items():
        for width, tiles in tunings.items():
            solve = dataclasses.replace(tiles.solve, columns=width, inner=width)
            doubling = dataclasses.replace(tiles.doubling, columns=width, inner=width)
            adjoint = dataclasses.replace(tiles.adjoint, columns=width, inner=width)
            reduce = dataclasses.replace(tiles.reduce, tile=64)
            wide = dataclasses.replace(
                tiles, reduce=reduce, solve=solve, doubling=doubling, adjoint=adjoint
            )
            monkeypatch.setitem(tuning.TUNINGS[dtype], width, wide)


def draw(
    length: int, width: int, dtype: torch.dtype, batch: int = 1, heads: int = 1, count: int = 3
) -> tuple[Tensor, ...]:
    states = torch.randn(count, batch, heads, length, width, device=DEVICE)
    return tuple(states.to(dtype))


def reference(
    operands: tuple[Tensor, ...], alpha: Tensor, mask: Tensor | None, scale: str, center: bool
) -> Tensor:
    query, key, value = (operand.double() for operand in operands)
    return osa_dense(query, key, value, alpha.double(), mask=mask, scale=scale, center=center)


def reference_gradients(
    grad: Tensor,
    operands: tuple[Tensor, ...],
    alpha: Tensor,
    mask: Tensor | None,
    scale: str,
    center: bool,
) -> tuple[Tensor, ...]:
    leaves = [operand.double().requires_grad_() for operand in (*operands, alpha)]
    with torch.enable_grad():
        output = osa_gram(*leaves, mask=mask, scale=scale, center=center)
    gradient = mask_and_center(grad.double(), mask, False)
    return torch.autograd.grad(output, leaves, gradient)


def packed_reference(
    operands: tuple[Tensor, ...], alpha: Tensor, offsets: Tensor, scale: str, center: bool
) -> Tensor:
    spans = itertools.pairwise(offsets.tolist())
    parts = [
        reference(tuple(operand[:, :, a:b] for operand in operands), alpha, None, scale, center)
        for a, b in spans
    ]
    return torch.cat(parts, dim=2)


def error(got: Tensor, truth: Tensor) -> float:
    """Largest error over the largest entry of the truth."""
    assert got.shape == truth.shape
    if not got.numel():
        return 0.0
    difference = (got.double() - truth.double()).abs().max()
    return float(difference / truth.abs().max().clamp(min=1e-30))


def worst(grads: tuple[Tensor, ...], truths: tuple[Tensor, ...], grad: Tensor) -> float:
    """Largest error of gradients.

    That of alpha is a sum whose terms cancel: its size is that of the gradient it is made from.
    """
    size = max(float(truths[3].abs().max()), float(grad.double().nan_to_num(0.0).norm()))
    angles = float((grads[3].double() - truths[3]).abs().max()) / size
    return max(angles, *(error(grads[index], truths[index]) for index in range(3)))


def angle_for(operands: tuple[Tensor, ...], radians: float, center: bool) -> Tensor:
    """The alpha of scale ``length`` whose scores have this angle, for one head."""
    query, key = (mask_and_center(part.double(), None, center) for part in operands[:2])
    scores = (query @ key.mT - key @ query.mT) / query.shape[-1] ** 0.5 / query.shape[2]
    alpha: Tensor = (radians / torch.linalg.matrix_norm(scores, 2)).flatten()[:1].float()
    return alpha
