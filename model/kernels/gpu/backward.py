"""The backward pass: which kernels run, in which order, through which workspaces.

Source: the closed form of ``functional.gradient`` for arXiv:2602.05996. Stages one and two are
computed again: nothing but the operands is kept from the forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from osa.model.kernels.gpu import adjoint, apply, reverse
from osa.model.kernels.gpu.forward import reduced, token_means
from osa.model.kernels.gpu.launch import (
    MAX_PROGRAMS,
    Batch,
    apply_type,
    batch_of,
    empty_token_major,
    launch,
    on_device,
    operand,
    tuning_of,
    weight_dtype,
    workspace,
)

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def run_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> Gradients:
    """Gradients of ``osa::attention`` with respect to query, key, value and alpha."""
    batch = batch_of(query, mask, cu_seqlens)
    outputs = (empty_token_major(query), empty_token_major(query), empty_token_major(query))
    if not query.numel() or not batch.num_sequences:
        return (*outputs, torch.zeros_like(alpha))
    with on_device(query):
        y, q, k, v = operand(grad.to(query.dtype)), operand(query), operand(key), operand(value)
        means = token_means(batch, q, k) if center else None
        grad_means = token_means(batch, v, y) if center else None
        system = reduced(batch, q, k, v, means, True)
        grad_weight = reduced(batch, q, k, y, means, False)
        weight, moment, grams, alpha_parts = _solved(
            batch, query, alpha, system, grad_weight, scale
        )
        tiles = tuning_of(query)
        grads = [part for output in outputs for part in operand(output)]
        launch(
            apply.apply_gradients,
            batch.slots(tiles.gradient.tile) * batch.heads,
            *(*y, *q, *k, *v, *grads, means, grad_means, weight, moment, grams, *batch.tokens),
            D=query.shape[-1],
            TILE=tiles.gradient.tile,
            INNER=tiles.gradient.inner,
            DOT=apply_type(query.dtype),
            PRECISION=tiles.precision,
            num_warps=tiles.gradient.warps,
            num_stages=tiles.gradient.stages,
        )
    return (*outputs, alpha_parts.sum(0).to(alpha.dtype))


def _solved(
    batch: Batch, query: Tensor, alpha: Tensor, system: Tensor, grad_weight: Tensor, scale: str
) -> Gradients:
    """W, dT, the blocks of dG + dG^T, and alpha's gradient of every sequence [S, H]."""
    width, tiles = query.shape[-1], tuning_of(query)
    kind, device = weight_dtype(query.dtype), query.device
    weight = torch.empty(batch.pairs, 2 * width, width, dtype=kind, device=device)
    moment = torch.empty_like(weight)
    grams = torch.empty(batch.pairs, 3, width, width, dtype=kind, device=device)
    alpha_parts = torch.zeros(batch.num_sequences, batch.heads, device=device)
    columns = tiles.adjoint.columns
    own = 2 * width * (columns * (1 + 2 * reverse.PAIRS.value) + 2 * width)
    programs = min(batch.pairs, MAX_PROGRAMS)
    launch(
        adjoint.solve_gradients,
        programs,
        *(system, grad_weight, alpha.contiguous(), weight, moment, grams, alpha_parts),
        *(workspace(query, programs, own), *batch.tokens),
        D=width,
        COLUMNS=columns,
        INNER=tiles.adjoint.inner,
        TILE=adjoint.OUTER,
        RESIDENT=tiles.adjoint.resident,
        OWN=own,
        LENGTH_SCALE=scale == "length",
        TOLERANCE=tiles.tolerance,
        PRECISION=tiles.precision,
        num_warps=tiles.adjoint.warps,
        num_stages=tiles.adjoint.stages,
    )
    return weight, moment, grams, alpha_parts
