"""Pooling on the device: one state a packed sequence, then its direction and length.

A slot of CHUNK tokens (see ``tokens``) is summed by one program, the slots of a sequence are added
in their order: what is added to what depends on that sequence alone. Shapes: T tokens, P slots,
S sequences, D hidden.
"""

from __future__ import annotations

import triton
import triton.language as tl

from osa.model.kernels.gpu.reduce import SIZES
from osa.model.kernels.gpu.tokens import first_slot, locate_slot, sequence_span

MEAN = tl.constexpr(0)
WEIGHTED = tl.constexpr(1)
FIRST = tl.constexpr(2)
LAST = tl.constexpr(3)
"""Kinds of pooling, as ``EncoderConfig.pooling``."""


@triton.jit(do_not_specialize=SIZES)
def sum_slots(
    hidden,
    sums,
    offsets,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    KIND: tl.constexpr,
):
    """Sums [P, D] of one slot, COLUMNS columns; of rows times their places with WEIGHTED."""
    PARTS: tl.constexpr = (D + COLUMNS - 1) // COLUMNS
    slot = tl.program_id(0) // PARTS
    columns = tl.program_id(0) % PARTS * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < D
    _, start, size, begin = locate_slot(offsets, slot, num_sequences, length, total, CHUNK)
    if begin >= size:
        return
    added = tl.zeros([COLUMNS], tl.float32)
    for place in range(begin, tl.minimum(begin + CHUNK, size), TILE):
        rows = place + tl.arange(0, TILE)
        cells = hidden + (start + rows).to(tl.int64)[:, None] * D + columns[None, :]
        tile = tl.load(cells, mask=(rows < size)[:, None] & inside[None, :], other=0.0)
        if KIND == WEIGHTED:
            tile *= (rows + 1).to(tl.float32)[:, None]
        added += tl.sum(tile, 0)
    tl.store(sums + slot.to(tl.int64) * D + columns, added, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def pool_sequences(
    hidden,
    sums,
    pooled,
    offsets,
    num_sequences,
    length,
    total,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    KIND: tl.constexpr,
):
    """One state [S, D] of a sequence, COLUMNS columns; zeros of an empty one."""
    PARTS: tl.constexpr = (D + COLUMNS - 1) // COLUMNS
    sequence = tl.program_id(0) // PARTS
    columns = tl.program_id(0) % PARTS * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < D
    start, size = sequence_span(offsets, sequence, length, total)
    state = tl.zeros([COLUMNS], tl.float32)
    if size > 0:
        if (KIND == FIRST) | (KIND == LAST):
            row = start
            if KIND == LAST:
                row = start + size - 1
            state = tl.load(hidden + row.to(tl.int64) * D + columns, mask=inside, other=0.0)
        else:
            slot = first_slot(offsets, sequence, start, length, CHUNK)
            for chunk in range(0, tl.cdiv(size, CHUNK)):
                source = sums + (slot + chunk).to(tl.int64) * D
                state += tl.load(source + columns, mask=inside, other=0.0)
            count = size.to(tl.float32)
            if KIND == WEIGHTED:
                count = count * (count + 1.0) * 0.5
            state = state / count
    tl.store(pooled + sequence.to(tl.int64) * D + columns, state, mask=inside)


@triton.jit
def to_unit(vectors, units, norms, D: tl.constexpr, BLOCK: tl.constexpr):
    """Direction and length of one vector, float32; zero stays zero."""
    first = tl.program_id(0).to(tl.int64) * D
    columns = tl.arange(0, BLOCK)
    inside = columns < D
    values = tl.load(vectors + first + columns, mask=inside, other=0.0).to(tl.float32)
    norm = tl.sqrt(tl.sum(values * values, 0))
    divisor = tl.where(norm < 1e-12, 1e-12, norm)  # NaN stays
    tl.store(units + first + columns, values / divisor, mask=inside)
    tl.store(norms + tl.program_id(0), norm)
