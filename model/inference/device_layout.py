"""A packed batch on its way to a device: everything that the host knows, in one copy.

Lengths, places and offsets come from the host, which made the batch; nothing is read back. They lie
in one array of int32 in page-locked memory, so that a batch takes one copy that nobody waits for.
Sizes are rounded up to few buckets, so that a captured graph serves many batches: what is added is
tokens that belong to no sequence, and sequences without a token. Shapes: T tokens, S sequences.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osa.model.sequences import InputRows

LEAST_TOKENS, STEPS_AN_OCTAVE = 64, 4
"""Smallest bucket [tokens], and number of buckets between n and 2 n."""


def bucket_tokens(count: int) -> int:
    """The next size of few from ``count`` [tokens] on, at most a quarter larger beyond 64."""
    if count <= LEAST_TOKENS:
        return LEAST_TOKENS
    step = (1 << (count - 1).bit_length()) // 2 // STEPS_AN_OCTAVE
    return -(-count // step) * step


def bucket_sequences(count: int) -> int:
    """The next power of two from ``count`` on."""
    return 1 << max(count - 1, 0).bit_length()


@dataclass(frozen=True)
class Shape:
    """What decides which kernels run, and on how much.

    Attributes:
        tokens: T, of the bucket.
        sequences: S, of the bucket.
        short: Whether a sequence has at most as many tokens as the kernel of short ones takes.
        long: Whether one has more.
    """

    tokens: int
    sequences: int
    short: bool
    long: bool


def shape_of(lengths: Sequence[int], limit: int) -> Shape:
    """The bucket of a batch; ``limit`` is the longest of the short sequences [tokens]."""
    return Shape(
        bucket_tokens(sum(lengths)),
        bucket_sequences(len(lengths)),
        any(length <= limit for length in lengths),
        any(length > limit for length in lengths),
    )


@dataclass(frozen=True)
class Layout:
    """One batch, or the memory for batches of one shape.

    Attributes:
        shape: Of the bucket.
        numbers: Everything of int32: ids, places, types and offsets, end to end.
        features: Of a model that takes features, float32 [T, F].
    """

    shape: Shape
    numbers: Tensor
    features: Tensor | None

    @classmethod
    def empty(cls, shape: Shape, width: int | None, device: torch.device) -> Layout:
        """Memory for a shape: on a device, or page-locked for it where that is the CPU.

        Args:
            shape: Of the bucket.
            width: Of features; None for ids.
            device: Where it lies.
        """
        pin = device.type == "cpu" and torch.cuda.is_available()
        count = 3 * shape.tokens + shape.sequences + 1
        numbers = torch.empty(count, dtype=torch.int32, device=device, pin_memory=pin)
        features = None
        if width is not None:
            features = torch.empty(shape.tokens, width, device=device, pin_memory=pin)
        return cls(shape, numbers, features)

    def _part(self, place: int) -> Tensor:
        count = self.shape.tokens
        return self.numbers.narrow(0, place * count, count)

    @property
    def ids(self) -> Tensor:
        """Token ids, int32 [T]."""
        return self._part(0)

    @property
    def places(self) -> Tensor:
        """Place of each token in its sequence, int32 [T]."""
        return self._part(1)

    @property
    def types(self) -> Tensor:
        """Type of each token, int32 [T]."""
        return self._part(2)

    @property
    def offsets(self) -> Tensor:
        """Offsets of the sequences, int32 [S + 1]."""
        return self.numbers.narrow(0, 3 * self.shape.tokens, self.shape.sequences + 1)

    def fill(self, sequences: InputRows, vocab_size: int | None) -> None:
        """Lay sequences out, on the host; ids beyond the vocabulary carry the token's type.

        Args:
            sequences: Checked ids or features, no more than the shape holds.
            vocab_size: Number of ids; None for features.
        """
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        total = int(lengths.sum())
        stops = lengths.cumsum()
        offsets = self.offsets.numpy()
        offsets[0], offsets[1 : len(stops) + 1], offsets[len(stops) + 1 :] = 0, stops, total
        places = self.places.numpy()
        places[:total] = np.arange(total) - np.repeat(stops - lengths, lengths)
        places[total:] = 0
        if self.features is not None:
            rows = self.features.numpy()
            np.concatenate([np.asarray(part) for part in sequences], out=rows[:total])
            rows[total:] = 0
            return
        ids, types = self.ids.numpy(), self.types.numpy()
        if isinstance(sequences[0], np.ndarray):
            np.concatenate(
                [np.asarray(row) for row in sequences], out=ids[:total], casting="unsafe"
            )
        else:  # lists of Python's numbers, in one call
            joined = itertools.chain.from_iterable(sequences)
            ids[:total] = np.fromiter(joined, dtype=np.int32, count=total)
        ids[total:] = types[total:] = 0
        if vocab_size is not None:
            np.floor_divide(ids[:total], vocab_size, out=types[:total])
            ids[:total] %= vocab_size

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a copy moves."""
        return (self.numbers,) if self.features is None else (self.numbers, self.features)

    def copy_from(self, other: Layout) -> None:
        """Take over a batch of the same shape; the host does not wait for the copy."""
        self.numbers.copy_(other.numbers, non_blocking=True)
        if self.features is not None and other.features is not None:
            self.features.copy_(other.features, non_blocking=True)
