"""The forward pass: which kernels run, in which order, through which workspaces.

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``. P slots, S sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from osa.model.kernels.gpu import apply, doubling, reduce, solve, tuning
from osa.model.kernels.gpu.launch import (
    MAX_PROGRAMS,
    Batch,
    Operand,
    apply_type,
    batch_of,
    empty_token_major,
    launch,
    on_device,
    operand,
    reduce_type,
    tuning_of,
    weight_dtype,
    workspace,
)


def token_means(batch: Batch, first: Operand, second: Operand) -> Tensor:
    """Means [S, H, 2, d] of two operands over the valid tokens of each sequence and head."""
    width, chunk = first[0].shape[-1], tuning.CHUNK
    slots = batch.slots(chunk)
    sums = workspace(first[0], slots, batch.heads, 2, width)
    means = workspace(first[0], batch.pairs, 2, width)
    launch(
        reduce.sum_rows,
        slots * batch.heads,
        *(*first, *second, sums, *batch.tokens),
        D=width,
        CHUNK=chunk,
        TILE=64,
    )
    launch(reduce.divide_sums, batch.pairs, sums, means, *batch.tokens, D=width, CHUNK=chunk)
    return means


def reduced(
    batch: Batch,
    query: Operand,
    key: Operand,
    value: Operand,
    means: Tensor | None,
    gram: bool,
) -> Tensor:
    """[G J | T] of every sequence and head [S H, 2 d, 3 d]; T [S H, 2 d, d] without ``gram``."""
    states = query[0]
    width, chunk, tiles = states.shape[-1], tuning.CHUNK, tuning_of(states)
    slots, blocks = batch.slots(chunk), 5 if gram else 2
    partial = workspace(states, slots, batch.heads, blocks, width, width)
    system = workspace(states, batch.pairs, 2 * width, (3 if gram else 1) * width)
    launch(
        reduce.reduce_products,
        slots * batch.heads * (width // tiles.reduce.columns),
        *(*query, *key, *value, means, partial, *batch.tokens),
        D=width,
        COLUMNS=tiles.reduce.columns,
        CHUNK=chunk,
        TILE=tiles.reduce.tile,
        GRAM=gram,
        DOT=reduce_type(states.dtype),
        PRECISION=tiles.precision,
        num_warps=tiles.reduce.warps,
        num_stages=tiles.reduce.stages,
    )
    launch(
        reduce.combine_slots,
        batch.pairs * blocks * (width // 32),
        *(partial, system, *batch.spans),
        D=width,
        ROWS=32,
        CHUNK=chunk,
        GRAM=gram,
    )
    return system


def run_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> Tensor:
    """``osa::attention`` of checked operands."""
    output = empty_token_major(query)
    batch = batch_of(query, mask, cu_seqlens)
    if not output.numel() or not batch.num_sequences:
        return output
    with on_device(query):
        q, k, v = operand(query), operand(key), operand(value)
        means = token_means(batch, q, k) if center else None
        weight = _solved(batch, query, alpha, reduced(batch, q, k, v, means, True), scale)
        tiles = tuning_of(query)
        launch(
            apply.apply_weights,
            batch.slots(tiles.apply.tile) * batch.heads,
            *(*q, *k, *v, *operand(output), means, weight, *batch.tokens),
            D=query.shape[-1],
            TILE=tiles.apply.tile,
            INNER=tiles.apply.inner,
            DOT=apply_type(query.dtype),
            PRECISION=tiles.precision,
            num_warps=tiles.apply.warps,
            num_stages=tiles.apply.stages,
        )
    return output


def _solved(batch: Batch, query: Tensor, alpha: Tensor, system: Tensor, scale: str) -> Tensor:
    """W [S H, 2 d, d] in the type of stage three."""
    width, tiles = query.shape[-1], tuning_of(query)
    weight = torch.empty(
        batch.pairs, 2 * width, width, dtype=weight_dtype(query.dtype), device=query.device
    )
    groups = width // tiles.solve.columns
    scratch = None
    if not tiles.solve.resident:
        scratch = workspace(query, batch.pairs * groups, 2 * width, tiles.solve.columns)
    plans = workspace(query, batch.pairs, 2)
    launch(
        solve.solve_weights,
        batch.pairs * groups,
        *(system, alpha.contiguous(), weight, plans, scratch, *batch.tokens),
        D=width,
        COLUMNS=tiles.solve.columns,
        INNER=tiles.solve.inner,
        RESIDENT=tiles.solve.resident,
        LENGTH_SCALE=scale == "length",
        TOLERANCE=tiles.tolerance,
        PRECISION=tiles.precision,
        num_warps=tiles.solve.warps,
        num_stages=tiles.solve.stages,
    )
    _double(batch, query, system, plans, weight)
    return weight


def _double(batch: Batch, query: Tensor, system: Tensor, plans: Tensor, weight: Tensor) -> None:
    """Fill in the weights that were too hard for ``solve_weights``."""
    width, tiles = query.shape[-1], tuning_of(query)
    own = 2 * width * (tiles.doubling.columns + 2 * 2 * width + width)
    programs = min(batch.pairs, MAX_PROGRAMS)
    launch(
        doubling.double_weights,
        programs,
        *(system, plans, weight, workspace(query, programs, own), *batch.spans),
        D=width,
        COLUMNS=tiles.doubling.columns,
        INNER=tiles.doubling.inner,
        OWN=own,
        TOLERANCE=tiles.tolerance,
        PRECISION="ieee" if tiles.precision == "ieee" else "tf32x3",
        num_warps=tiles.doubling.warps,
        num_stages=tiles.doubling.stages,
    )
