"""The forward pass: which kernels run, in which order, through which workspaces.

Sequences of at most ``SHORT_TOKENS`` tokens take one kernel (``short``), the others the stages.
Which of the two a batch needs is known from shapes, or from what the caller knows of its lengths;
where neither says, both are launched and find little to do.

Source: arXiv:2602.05996 in the Gram form of ``osa.model.functional``. P slots, S sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from osa.model.kernels.gpu import apply, doubling, reduce, short, solve, tuning
from osa.model.kernels.gpu.launch import (
    MAX_PROGRAMS,
    Batch,
    Known,
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


def token_means(batch: Batch, first: Operand, second: Operand, least: int = 0) -> Tensor:
    """Means [S, H, 2, d] of two operands over the valid tokens of each sequence and head.

    Args:
        batch: Layout.
        first: One operand.
        second: Another.
        least: Sequences of at most so many tokens are passed over.
    """
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
        SHORT=least,
    )
    launch(
        reduce.divide_sums,
        batch.pairs,
        *(sums, means, *batch.tokens),
        D=width,
        CHUNK=chunk,
        SHORT=least,
    )
    return means


def reduced(
    batch: Batch,
    query: Operand,
    key: Operand,
    value: Operand,
    means: Tensor | None,
    gram: bool,
    least: int = 0,
) -> Tensor:
    """[G J | T] of every sequence and head [S H, 2 d, 3 d]; T [S H, 2 d, d] without ``gram``.

    Args:
        batch: Layout.
        query: Queries.
        key: Keys.
        value: Values, or their gradient.
        means: Of queries and keys, where they are centred.
        gram: Whether the Gram matrix is needed.
        least: Sequences of at most so many tokens are passed over.
    """
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
        SHORT=least,
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
        SHORT=least,
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
    known: Known | None = None,
) -> Tensor:
    """``osa::attention`` of checked operands; ``known`` saves launches, and changes no number."""
    output = empty_token_major(query)
    batch = batch_of(query, mask, cu_seqlens)
    if not output.numel() or not batch.num_sequences:
        return output
    known = known or Known()
    limit = short.SHORT_TOKENS if mask is None else 0
    longest = min(known.longest or batch.length, batch.length)
    shortest = known.shortest if cu_seqlens is not None else batch.length
    with on_device(query):
        operands = operand(query), operand(key), operand(value), operand(output)
        if shortest <= limit:
            _attend_short(batch, operands, alpha, scale, center)
        if longest > limit:
            _in_stages(batch, operands, alpha, scale, center, known.may_double, limit)
    return output


def _attend_short(
    batch: Batch, operands: tuple[Operand, ...], alpha: Tensor, scale: str, center: bool
) -> None:
    """Results of the short sequences."""
    query = operands[0][0]
    tiles = tuning_of(query)
    launch(
        short.attend_short,
        batch.pairs * (query.shape[-1] // tiles.short.columns),
        *(part for each in operands for part in each),
        *(alpha.contiguous(), *batch.spans),
        D=query.shape[-1],
        COLUMNS=tiles.short.columns,
        INNER=tiles.short.inner,
        TILE=short.SHORT_TOKENS,
        DOT=reduce_type(query.dtype),
        CENTER=center,
        LENGTH_SCALE=scale == "length",
        TOLERANCE=tiles.tolerance,
        PRECISION=tiles.precision,
        num_warps=tiles.short.warps,
        num_stages=tiles.short.stages,
    )


def _in_stages(
    batch: Batch,
    operands: tuple[Operand, ...],
    alpha: Tensor,
    scale: str,
    center: bool,
    may_double: bool,
    least: int,
) -> None:
    """Results of the sequences of more than ``least`` tokens."""
    q, k, v, _ = operands
    query = q[0]
    means = token_means(batch, q, k, least) if center else None
    system = reduced(batch, q, k, v, means, True, least)
    weight = _solved(batch, query, alpha, system, scale, may_double, least)
    tiles = tuning_of(query)
    launch(
        apply.apply_weights,
        batch.slots(tiles.apply.tile) * batch.heads,
        *(part for each in operands for part in each),
        *(means, weight, *batch.tokens),
        D=query.shape[-1],
        TILE=tiles.apply.tile,
        INNER=tiles.apply.inner,
        DOT=apply_type(query.dtype),
        PRECISION=tiles.precision,
        SHORT=least,
        num_warps=tiles.apply.warps,
        num_stages=tiles.apply.stages,
    )


def _solved(
    batch: Batch,
    query: Tensor,
    alpha: Tensor,
    system: Tensor,
    scale: str,
    may_double: bool,
    least: int,
) -> Tensor:
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
        SHORT=least,
        num_warps=tiles.solve.warps,
        num_stages=tiles.solve.stages,
    )
    if may_double:
        _double(batch, query, system, plans, weight, least)
    return weight


def _double(
    batch: Batch, query: Tensor, system: Tensor, plans: Tensor, weight: Tensor, least: int
) -> None:
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
        SHORT=least,
        num_warps=tiles.doubling.warps,
        num_stages=tiles.doubling.stages,
    )
