"""Packed sequences whose tokens lie on several processes, with the gradients of one process.

Every process of a group has the same batch and computes its part of each sequence, one after the
other. What it returns is the same on all: then the mean of their gradients is that of one process.

Shapes: T packed tokens, R vectors, D hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.embedding_model import EmbeddingModel
from osa.model.streaming.parallel import SequenceGroup, pool_spans, states_of_part
from osa.model.training.data.batch import PackedBatch


class Part(NamedTuple):
    """This process's tokens of one sequence.

    Attributes:
        states: Their last hidden states [n, D].
        first: Place of the first of them in the sequence.
        start: Place of the sequence's first token in the batch.
        length: Tokens of the sequence.
    """

    states: Float[Tensor, "n D"]
    first: int
    start: int
    length: int


class SharedSequences:
    """Computes packed batches together with the other processes of a group."""

    def __init__(self, group: SequenceGroup) -> None:
        """Share with these processes."""
        self.group = group

    def pooled(self, model: EmbeddingModel, packed: PackedBatch) -> Float[Tensor, "R D"]:
        """One state for each of ``packed.spans``.

        Raises:
            ConfigError: The mixer needs more than sums.
        """
        bounds: list[int] = packed.spans.tolist()
        pooled, how = [], model.config.pooling
        for part in self._parts(model, packed):
            ends = [end for end in bounds if part.start < end <= part.start + part.length]
            lengths = [end - start for start, end in zip([part.start, *ends], ends, strict=False)]
            pooled.append(pool_spans(part.states, how, part.first, lengths, self.group))
        return torch.cat(pooled)

    def tokens(
        self, model: EmbeddingModel, packed: PackedBatch
    ) -> tuple[Float[Tensor, "n D"], Tensor]:
        """States of this process's tokens of all sequences, and their places in the batch [n].

        Raises:
            ConfigError: The mixer needs more than sums.
        """
        states, places = [], []
        for part in self._parts(model, packed):
            states.append(part.states)
            first = part.start + part.first
            places.append(torch.arange(first, first + len(part.states)))
        return torch.cat(states), torch.cat(places).to(packed.inputs.device)

    def _parts(self, model: EmbeddingModel, packed: PackedBatch) -> Iterator[Part]:
        offsets: list[int] = packed.cu_seqlens.tolist()
        for start, end in itertools.pairwise(offsets):
            first, stop = self.group.part(end - start)
            own = packed.inputs[0, start + first : start + stop]
            states = states_of_part(model, own, first, end - start, self.group)
            yield Part(states, first, start, end - start)
