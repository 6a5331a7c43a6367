"""Packed batches: sequences laid end to end, delimited by ``cu_seqlens``.

``cu_seqlens`` is int32 [S + 1], 0 first, the total token count last, as in FlashAttention. For
kernels that want rectangles, sequences are gathered into buckets whose width is a function of
**the sequence's own length alone**, so a sequence meets the same arithmetic in every batch.
Sequences longer than ``GATHER_LIMIT`` form a rectangle by themselves, without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.errors import InputError

GATHER_LIMIT = 1024
MIN_WIDTH = 8


def bucket_width(length: int) -> int:
    """Padded width for a sequence of ``length`` tokens: a step of 8, above 32 of a quarter."""
    if length > GATHER_LIMIT:
        return length
    step = max(MIN_WIDTH, 1 << max(0, (max(length, 1) - 1).bit_length() - 2))
    return max(step, -(-length // step) * step)


@dataclass(frozen=True)
class Bucket:
    """Sequences of one width, as places in the packed batch.

    Attributes:
        rows: Which sequences of the batch.
        index: Packed token of each cell; a padded cell repeats its own sequence's first token.
        mask: True at real tokens; None when nothing is padded.
        start: Packed place of the first token of the first sequence.
    """

    rows: tuple[int, ...]
    index: Int[Tensor, "S L"]
    mask: Bool[Tensor, "S L"] | None
    start: int


def check_cu_seqlens(cu_seqlens: Int[Tensor, "S1"], total: int) -> list[int]:
    """Return the offsets as integers.

    Raises:
        InputError: Not one-dimensional, not rising from 0 to ``total``.
    """
    if cu_seqlens.dim() != 1 or cu_seqlens.is_floating_point() or cu_seqlens.shape[0] < 1:
        raise InputError(
            "cu_seqlens must be a one-dimensional integer tensor of at least one offset, got "
            f"{cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}"
        )
    offsets: list[int] = cu_seqlens.tolist()
    rising = all(left <= right for left, right in zip(offsets, offsets[1:], strict=False))
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


def bucket_sequences(offsets: Sequence[int], device: torch.device) -> list[Bucket]:
    """Group the non-empty sequences between ``offsets`` by width."""
    groups: dict[int, list[int]] = {}
    for row, (start, stop) in enumerate(zip(offsets, offsets[1:], strict=False)):
        if stop > start:
            groups.setdefault(bucket_width(stop - start), []).append(row)
    buckets = []
    for width, rows in sorted(groups.items()):
        for chunk in [rows] if width <= GATHER_LIMIT else [[row] for row in rows]:
            full = all(offsets[row + 1] - offsets[row] == width for row in chunk)
            starts = torch.tensor([offsets[row] for row in chunk], device=device)[:, None]
            stops = torch.tensor([offsets[row + 1] for row in chunk], device=device)[:, None]
            index = starts + torch.arange(width, device=device)
            mask = index < stops
            index = torch.where(mask, index, starts)
            buckets.append(
                Bucket(tuple(chunk), index, None if full else mask, offsets[chunk[0]])
            )
    return buckets


def gather(states: Float[Tensor, "1 H T D"], bucket: Bucket) -> Float[Tensor, "S H L D"]:
    """The bucket's rectangle; a view where the bucket is one whole sequence."""
    count, width = bucket.index.shape
    tokens = states[0].transpose(0, 1)
    if count == 1 and bucket.mask is None:
        return tokens[bucket.start : bucket.start + width].transpose(0, 1)[None]
    picked = tokens.index_select(0, bucket.index.reshape(-1))
    return picked.view(count, width, *tokens.shape[1:]).transpose(1, 2)


def scatter(
    target: Float[Tensor, "1 H T D"], bucket: Bucket, block: Float[Tensor, "S H L D"]
) -> None:
    """Write the real cells of a rectangle back into the packed ``target``, in place."""
    tokens = target[0].transpose(0, 1)
    cells = block.transpose(1, 2)
    if bucket.mask is None:
        tokens[bucket.index.reshape(-1)] = cells.reshape(-1, *tokens.shape[1:])
    else:
        tokens[bucket.index[bucket.mask]] = cells[bucket.mask]


Kernel = Callable[[tuple[Tensor, ...], Tensor | None, Bucket], tuple[Tensor, ...]]


def map_buckets(
    states: tuple[Float[Tensor, "1 H T D"], ...],
    offsets: Sequence[int],
    kernel: Kernel,
    num_outputs: int,
) -> tuple[Float[Tensor, "1 H T D"], ...]:
    """Run ``kernel(rectangles, mask, bucket)`` over every bucket; outputs are packed again."""
    packed = states[0]
    heads, total, width = packed.shape[1:]
    outputs = tuple(
        packed.new_zeros(1, total, heads, width).transpose(1, 2) for _ in range(num_outputs)
    )
    for bucket in bucket_sequences(offsets, packed.device):
        rectangles = tuple(gather(state, bucket) for state in states)
        for output, block in zip(outputs, kernel(rectangles, bucket.mask, bucket), strict=True):
            scatter(output, bucket, block)
    return outputs
