"""Packed batches: sequences laid end to end, delimited by ``cu_seqlens``.

``cu_seqlens`` is int32 [S + 1], 0 first, the total token count last, as in FlashAttention. For
kernels on rectangles, sequences are gathered into buckets whose width is a function of
**the sequence's own length alone**, so that its arithmetic is the same in every batch.
Sequences longer than ``GATHER_LIMIT`` form a rectangle by themselves.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.errors import InputError

GATHER_LIMIT = 1024
MIN_WIDTH = 8


def bucket_width(length: int) -> int:
    """Padded width of a sequence [tokens]: in steps of 8, from 65 on of at most a quarter."""
    if length > GATHER_LIMIT:
        return length
    step = max(MIN_WIDTH, 1 << max(0, (max(length, 1) - 1).bit_length() - 3))
    return max(step, -(-length // step) * step)


@dataclass(frozen=True)
class Bucket:
    """Sequences of one width, as places in the packed batch.

    Attributes:
        lengths: Tokens of each sequence [S].
        width: Cells of each row of the rectangle, L.
        start: Packed place of the first token of the first sequence.
        index: Packed token of each cell [S * L]; padded cells point one past the last token.
        cells: Cell of each real token; None when nothing is padded.
        tokens: Packed place of each real token.
        mask: True at real tokens; None when nothing is padded.
    """

    lengths: tuple[int, ...]
    width: int
    start: int
    index: Int[Tensor, " cells"]
    cells: Int[Tensor, " tokens"] | None
    tokens: Int[Tensor, " tokens"]
    mask: Bool[Tensor, "S L"] | None


def check_cu_seqlens(cu_seqlens: Tensor, total: int) -> list[int]:
    """Return the offsets [S + 1] as integers.

    Raises:
        InputError: Not one-dimensional, not rising from 0 to ``total``.
    """
    integer = cu_seqlens.dtype in (torch.int32, torch.int64)
    if cu_seqlens.dim() != 1 or not integer or not len(cu_seqlens):
        raise InputError(
            "cu_seqlens must be a one-dimensional integer tensor of at least one offset, got "
            f"{cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}"
        )
    offsets: list[int] = cu_seqlens.tolist()
    rising = all(left <= right for left, right in itertools.pairwise(offsets))
    if offsets[0] != 0 or offsets[-1] != total or not rising:
        raise InputError(
            f"cu_seqlens must rise from 0 to the {total} packed tokens, got "
            f"{offsets[:4]}...{offsets[-1]}"
        )
    return offsets


def cu_seqlens_of(lengths: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Offsets [S + 1] of sequences of these ``lengths`` [tokens]."""
    sizes = torch.tensor([0, *lengths], dtype=torch.int32, device=device)
    return sizes.cumsum(0, dtype=torch.int32)


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences by ascending length, in batches of at most ``max_tokens`` in all.

    A sequence longer than ``max_tokens`` is a batch of its own.
    """
    batch: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and tokens + lengths[row] > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += lengths[row]
    if batch:
        yield batch


def count_up(length: int | torch.SymInt, device: torch.device) -> Int[Tensor, " N"]:
    """0 to ``length - 1``, which is a symbol in traces."""
    return torch.arange(length, device=device)  # type: ignore[arg-type]  # torch's hint lacks SymInt


def segment_ids(cu_seqlens: Int[Tensor, " S1"], total: int | torch.SymInt) -> Int[Tensor, " T"]:
    """Which sequence each packed token belongs to; traceable: reads no value on the host."""
    ends = cu_seqlens[1:].to(torch.int64)
    marks = torch.zeros(total + 1, dtype=torch.int64, device=cu_seqlens.device)
    return marks.scatter_add(0, ends, torch.ones_like(ends)).cumsum(0)[:-1]


@functools.lru_cache(maxsize=16)
def bucket_sequences(
    offsets: tuple[int, ...], device: torch.device, exact: bool = False
) -> tuple[Bucket, ...]:
    """Group the non-empty sequences between ``offsets`` by width; cached for the next layers.

    Args:
        offsets: Of the sequences.
        device: Of the indices.
        exact: One width a length: nothing is padded.
    """
    with torch.inference_mode(False):  # cached tensors are used under autograd too
        return _bucket_sequences(offsets, device, exact)


def _bucket_sequences(
    offsets: tuple[int, ...], device: torch.device, exact: bool
) -> tuple[Bucket, ...]:
    groups: dict[int, list[tuple[int, int]]] = {}
    for start, stop in itertools.pairwise(offsets):
        if stop > start:
            width = stop - start if exact else bucket_width(stop - start)
            groups.setdefault(width, []).append((start, stop))
    buckets = []
    for width, spans in sorted(groups.items()):
        for chunk in [spans] if width <= GATHER_LIMIT else [[span] for span in spans]:
            buckets.append(_bucket(chunk, width, offsets[-1], device))
    return tuple(buckets)


def _bucket(spans: list[tuple[int, int]], width: int, total: int, device: torch.device) -> Bucket:
    lengths = tuple(stop - start for start, stop in spans)
    starts = torch.tensor([start for start, _ in spans])[:, None]
    places = torch.arange(width)
    mask = places < torch.tensor(lengths)[:, None]
    index = torch.where(mask, starts + places, total).flatten()
    full = bool(mask.all())
    cells = mask.flatten().nonzero().flatten()
    return Bucket(
        lengths,
        width,
        spans[0][0],
        index.to(device),
        None if full else cells.to(device),
        index[cells].to(device),
        None if full else mask.to(device),
    )


def token_rows(states: Float[Tensor, "1 H T D"], padded: bool) -> Float[Tensor, "T1 H D"]:
    """Packed states by token, with a last row of zeros for padded cells where ``padded``."""
    rows = states[0].transpose(0, 1)
    return F.pad(rows, (0, 0, 0, 0, 0, 1)) if padded else rows


def gather(rows: Float[Tensor, "T1 H D"], bucket: Bucket) -> Float[Tensor, "S H L D"]:
    """The bucket's rectangle, zero where padded; a view where it is one whole sequence."""
    count, width = len(bucket.lengths), bucket.width
    if count == 1 and bucket.mask is None:
        return rows[bucket.start : bucket.start + width].transpose(0, 1)[None]
    picked = rows.index_select(0, bucket.index)
    return picked.view(count, width, *rows.shape[1:]).transpose(1, 2)


def scatter(
    target: Float[Tensor, "T H D"], bucket: Bucket, block: Float[Tensor, "S H L D"]
) -> Float[Tensor, "T H D"]:
    """``target`` with the real cells of a rectangle at their packed places."""
    cells = block.transpose(1, 2).flatten(0, 1)
    if bucket.lengths == (len(target),) and bucket.mask is None:
        return cells  # one sequence is the whole batch
    if bucket.cells is not None:
        cells = cells.index_select(0, bucket.cells)
    if target.requires_grad or block.requires_grad:
        return target.index_copy(0, bucket.tokens, cells)
    return target.index_copy_(0, bucket.tokens, cells)


BucketFunction = Callable[[tuple[Tensor, ...], Bucket], tuple[Tensor, ...]]


def map_buckets(
    states: tuple[Float[Tensor, "1 H T _"], ...],
    offsets: Sequence[int],
    kernel: BucketFunction,
    num_outputs: int,
    exact: bool = False,
) -> tuple[Float[Tensor, "1 H T D"], ...]:
    """Run a kernel on every bucket and pack its outputs.

    Args:
        states: Packed operands.
        offsets: Of the sequences [S + 1].
        kernel: From rectangles [S, H, L, D] and their bucket to rectangles of that shape.
        num_outputs: How many the kernel returns.
        exact: As for ``bucket_sequences``.
    """
    packed = states[0]
    heads, total, width = packed.shape[1:]
    buckets = bucket_sequences(tuple(offsets), packed.device, exact)
    padded = any(bucket.mask is not None for bucket in buckets)
    rows = tuple(token_rows(state, padded) for state in states)
    outputs = [packed.new_zeros(total, heads, width) for _ in range(num_outputs)]
    for bucket in buckets:
        blocks = kernel(tuple(gather(row, bucket) for row in rows), bucket)
        outputs = [
            scatter(output, bucket, block) for output, block in zip(outputs, blocks, strict=True)
        ]
    return tuple(output.transpose(0, 1)[None] for output in outputs)
