"""Examples as sequences for the network, and packed batches of them.

Shapes: T packed tokens, S sequences, R vectors, F feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.functional.varlen import batches_by_length, cu_seqlens_of

IGNORED = -100
"""Label of a token that is not predicted."""


@dataclass(frozen=True)
class Example:
    """One sequence for the network, with the vectors or labels that its loss needs.

    Attributes:
        inputs: Token ids, or features [N, F].
        keys: Key of each of its vectors; they order the vectors of all processes.
        spans: Lengths of the parts with a vector each, N in all; empty for one vector [tokens].
        labels: One per token, or one per sequence; classes, or numbers to predict.
    """

    inputs: Sequence[int] | np.ndarray
    keys: tuple[int, ...] = ()
    spans: tuple[int, ...] = ()
    labels: Sequence[int] | Sequence[float] = ()


@dataclass(frozen=True)
class PackedBatch:
    """Concatenated sequences, as tensors on the device of the network.

    Attributes:
        inputs: Ids [1, T] or features [1, T, F].
        cu_seqlens: Offsets of the sequences [S + 1].
        spans: Offsets of the parts with a vector each [R + 1].
        labels: Labels of the tokens [T] or sequences [S]; int64, or float32 where they are floats.
    """

    inputs: Int[Tensor, "1 T"] | Float[Tensor, "1 T F"]
    cu_seqlens: Int[Tensor, " S1"]
    spans: Int[Tensor, " R1"]
    labels: Int[Tensor, " L"] | Float[Tensor, " L"]


def pack(examples: Sequence[Example], device: torch.device) -> PackedBatch:
    """Concatenate examples."""
    if isinstance(examples[0].inputs, np.ndarray):
        rows = np.concatenate([np.asarray(example.inputs) for example in examples])
        inputs = torch.from_numpy(rows)[None]
    else:
        inputs = torch.tensor([[token for example in examples for token in example.inputs]])
    lengths = [len(example.inputs) for example in examples]
    spans = [
        span
        for example, length in zip(examples, lengths, strict=True)
        for span in example.spans or (length,)
    ]
    labels = [label for example in examples for label in example.labels]
    kind = torch.float32 if labels and isinstance(labels[0], float) else torch.int64
    return PackedBatch(
        inputs.to(device),
        cu_seqlens_of(lengths, device),
        cu_seqlens_of(spans, device),
        torch.tensor(labels, dtype=kind, device=device),
    )


def split_into_chunks(examples: Sequence[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Examples by length, in chunks of at most ``max_tokens`` (or one example)."""
    for rows in batches_by_length([len(example.inputs) for example in examples], max_tokens):
        yield [examples[row] for row in rows]
