"""Where the tokens of a sequence lie: device functions that every token kernel shares.

A batch is either packed (``offsets`` [S + 1] into T tokens) or padded (``offsets`` is None and
sequence s is row s of the batch, ``length`` tokens wide). Work over tokens is cut into **slots** of
CHUNK tokens, counted from the first token of each sequence, so what is added to what depends on
that sequence alone and not on what lies around it in the batch.

Slots without reading offsets on the host: in a packed batch sequence s owns the slots from
base(s) = floor(start_s / CHUNK) + s. That is always enough. Write start = a CHUNK + r and
stop = b CHUNK + t with 0 <= r, t < CHUNK: the sequence has ceil(b - a + (t - r) / CHUNK) <=
b - a + 1 = base(s + 1) - base(s) chunks. So floor(T / CHUNK) + S slots serve every batch of S
sequences and T tokens; the ones that are too many find nothing to do. base rises strictly, which
makes the owner of a slot a binary search.

Sequences of at most SHORT tokens are left to ``short``: to the other kernels they are empty.

Offsets come from the device unchecked. They are clamped to [0, T], so that wrong ones give wrong
numbers and not accesses outside the operands.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def clamped_offset(offsets, index, total):
    """Offset of a packed sequence, within the packed tokens."""
    return tl.minimum(tl.maximum(tl.load(offsets + index), 0), total).to(tl.int32)


@triton.jit
def sequence_span(offsets, sequence, length, total, SHORT: tl.constexpr = 0):
    """First token of a sequence in the flattened batch, and how many tokens it has."""
    if offsets is None:
        start = sequence * length
        size = length
    else:
        start = clamped_offset(offsets, sequence, total)
        size = clamped_offset(offsets, sequence + 1, total) - start
    size = tl.where(size > SHORT, size, 0)
    return start, size


@triton.jit
def first_slot(offsets, sequence, start, length, CHUNK: tl.constexpr):
    """The first slot that a sequence owns."""
    slot = start // CHUNK + sequence
    if offsets is None:
        slot = sequence * tl.cdiv(length, CHUNK)
    return slot


@triton.jit
def locate_slot(
    offsets, slot, num_sequences, length, total, CHUNK: tl.constexpr, SHORT: tl.constexpr = 0
):
    """Owner of a slot.

    Returns:
        The sequence, its first token in the flattened batch, its size [tokens], and the first
        token of the slot, counted from the start of the sequence: at least ``size`` where the slot
        holds nothing.
    """
    if offsets is None:
        chunks = tl.cdiv(length, CHUNK)
        sequence = slot // chunks
        begin = (slot % chunks) * CHUNK
        start, size = sequence_span(offsets, sequence, length, total, SHORT)
    else:
        low = slot * 0
        high = low + num_sequences
        while high - low > 1:
            middle = (low + high) // 2
            owned = clamped_offset(offsets, middle, total) // CHUNK + middle <= slot
            low = tl.where(owned, middle, low)
            high = tl.where(owned, high, middle)
        sequence = low
        start, size = sequence_span(offsets, sequence, length, total, SHORT)
        begin = (slot - start // CHUNK - sequence) * CHUNK
        begin = tl.where(begin < 0, size, begin)  # offsets that do not begin at 0
    return sequence, start, size, begin


@triton.jit
def valid_rows(mask, rows, start, size):
    """Which tokens of a sequence exist and are not padding."""
    valid = rows < size
    if mask is not None:
        valid = valid & (tl.load(mask + start + rows, mask=valid, other=0) != 0)
    return valid


@triton.jit
def count_valid(mask, start, size, SPAN: tl.constexpr):
    """How many tokens of a sequence are not padding."""
    if mask is None:
        count = size
    else:
        count = size * 0
        for begin in range(0, size, SPAN):
            rows = begin + tl.arange(0, SPAN)
            count += tl.sum(valid_rows(mask, rows, start, size).to(tl.int32), 0)
    return count


@triton.jit
def head_pointer(pointer, strides, offsets, sequence, start, head):
    """Address of the first token of one sequence and head, in any [B, H, N, d] view.

    ``strides`` are those of batch, head and token; features lie side by side.
    """
    base = pointer + head.to(tl.int64) * strides[1]
    if offsets is None:
        base += sequence.to(tl.int64) * strides[0]
    else:
        base += start.to(tl.int64) * strides[2]
    return base


@triton.jit
def load_rows(base, strides, rows, valid, columns, mean):
    """Rows of one operand in its own type, less ``mean`` (None: as they are); 0 where not valid.

    What is not valid is selected away, never multiplied: padding may hold NaN. The difference is
    taken in float32, before anything is multiplied: as a rank-one correction of the products it
    would cancel.
    """
    places = base + rows.to(tl.int64)[:, None] * strides[2] + columns[None, :]
    tile = tl.load(places, mask=valid[:, None], other=0.0)
    if mean is not None:
        centered = tile.to(tl.float32) - tl.load(mean + columns)[None, :]
        tile = tl.where(valid[:, None], centered, 0.0).to(base.dtype.element_ty)
    return tile


@triton.jit
def store_rows(base, strides, rows, size, valid, tile, D: tl.constexpr):
    """Store rows of d features in the type of ``base``: zeros of padding, nothing beyond."""
    columns = tl.arange(0, D)
    places = base + rows.to(tl.int64)[:, None] * strides[2] + columns[None, :]
    kept = tl.where(valid[:, None], tile, 0.0).to(base.dtype.element_ty)
    tl.store(places, kept, mask=(rows < size)[:, None])
