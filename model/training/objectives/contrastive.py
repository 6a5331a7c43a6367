"""Contrastive learning of pairs or triples with in-batch negatives.

    loss = mean over i of -log( exp(a_i . p_i / t) / sum over c of exp(a_i . c / t) )

with c every positive and negative of the batch (InfoNCE, arXiv:1807.03748), averaged over the
allowed widths (Matryoshka, arXiv:2205.13147), and over both directions where ``symmetric``.
A candidate is excluded where it equals the anchor, or a positive of any row with an equal anchor;
in the other direction an anchor is, where it equals the positive, or belongs to an equal one. Equal
is what has the same ids, or features, as the network sees them.

Shapes: n rows of a batch, C candidates, R vectors, E embedding width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.training.data.batch import Example
from osa.model.training.evaluation import retrieval_scores
from osa.model.training.objectives.base import (
    EmbeddingObjective,
    Loss,
    ObjectiveInputs,
    to_sequences,
)
from osa.model.training.objectives.registry import ContrastiveSection

ROLES = ("anchor", "positive", "negative")
KEYS_PER_EXAMPLE = 4
ABSENT = 0
"""Digest of a negative that a row has not, or of a row that was not tokenised yet."""


def contrastive_loss(
    anchors: Float[Tensor, "n E"],
    candidates: Float[Tensor, "C E"],
    excluded: Bool[Tensor, "n C"],
    temperature: float,
) -> Float[Tensor, ""]:
    """InfoNCE of unit vectors; the positive of anchor i is candidate i.

    Args:
        anchors: Unit vectors.
        candidates: Positives in the order of the anchors, then negatives.
        excluded: Candidates left out for an anchor; never its own positive.
        temperature: Divides the similarities.
    """
    logits = (anchors @ candidates.T / temperature).masked_fill(excluded, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(anchors), device=logits.device))


class Contrastive(EmbeddingObjective):
    """Objective ``contrastive``."""

    section: ContrastiveSection
    scores = ("recall_at_1", "recall_at_10", "mrr_at_10")

    def __init__(self, section: ContrastiveSection, inputs: ObjectiveInputs) -> None:
        """Prepare the objective; see ``Objective``."""
        super().__init__(section, inputs)
        self.tokenizer = inputs.model.tokenizer
        self.widths = inputs.model.config.allowed_dimensions
        self._digests = np.zeros((len(inputs.store), len(ROLES)), dtype=np.uint64)

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """Two or three sequences per row."""
        return [
            Example(sequence, (int(places[at]) * KEYS_PER_EXAMPLE + role,))
            for at, role, sequence in self._sequences(rows)
        ]

    def _sequences(self, rows: np.ndarray) -> Iterator[tuple[int, int, Sequence[int] | np.ndarray]]:
        """Index into ``rows``, role and sequence of all that rows have; notes their digests."""
        taken = self.store.take(rows)
        for role, name in enumerate(ROLES):
            there = [at for at, value in enumerate(taken[name]) if value is not None]
            values = [taken[name][at] for at in there]
            sequences = to_sequences(values, self.tokenizer, self.max_tokens)
            for at, sequence in zip(there, sequences, strict=True):
                self._digests[rows[at], role] = digest(sequence)
                yield at, role, sequence

    def loss(
        self, vectors: Float[Tensor, "R E"], keys: np.ndarray, sizes: np.ndarray, rows: np.ndarray
    ) -> Loss:
        """InfoNCE over every positive and negative of the batch."""
        roles = torch.from_numpy(keys % KEYS_PER_EXAMPLE).to(vectors.device)
        anchors, positives, negatives = (vectors[roles == role] for role in range(len(ROLES)))
        candidates = torch.cat([positives, negatives])
        excluded = self._repeats(rows).to(vectors.device)
        terms = []
        for width in self.widths:
            left = F.normalize(anchors[:, :width], dim=-1)
            right = F.normalize(candidates[:, :width], dim=-1)
            terms.append(contrastive_loss(left, right, excluded, self.section.temperature))
            if self.section.symmetric:
                back, square = right[: len(left)], excluded[:, : len(left)].T
                terms.append(contrastive_loss(back, left, square, self.section.temperature))
        return Loss(torch.stack(terms).mean())

    def _repeats(self, rows: np.ndarray) -> Bool[Tensor, "n C"]:
        """Candidates that are no negatives of an anchor, other than its own positive."""
        unseen = rows[self._digests[rows, 0] == ABSENT]  # those of other processes, at first use
        for _ in self._sequences(unseen):
            pass
        anchors, positives, negatives = self._digests[rows].T
        return excluded_candidates(anchors, positives, negatives[negatives != ABSENT])

    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """How well held-out anchors find their positives among all of them."""
        if self.held_out is None:
            return {}
        anchors, positives = (self._encode(model, name) for name in ROLES[:2])
        return retrieval_scores(anchors, positives)

    def _encode(self, model: EmbeddingModel, name: str) -> Tensor:
        """Vectors of a field of the held-out examples."""
        assert self.held_out is not None  # evaluate looked
        values = list(self.held_out.column(name))
        if self.tokenizer is not None:
            return model.encode(values)
        return model.encode_features([value[: model.config.max_seq_len] for value in values])


def digest(sequence: Sequence[int] | np.ndarray) -> int:
    """A number that sequences share only where they are equal, never ``ABSENT``."""
    content = np.ascontiguousarray(sequence).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1


def excluded_candidates(
    anchors: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> Bool[Tensor, "n C"]:
    """Candidates that are no negatives of an anchor, other than its own positive.

    Args:
        anchors: Numbers that are equal where the anchors are [n].
        positives: The same of their positives [n].
        negatives: The same of negatives.
    """
    candidates = np.concatenate([positives, negatives])
    same = (positives[:, None] == candidates) | (anchors[:, None] == candidates)
    _, group, sizes = np.unique(anchors, return_inverse=True, return_counts=True)
    for place in np.flatnonzero(sizes > 1):  # what answers a question answers its repetitions
        rows = np.flatnonzero(group == place)
        same[rows] |= np.isin(candidates, positives[rows])
    excluded = torch.from_numpy(same)
    excluded.diagonal().fill_(False)
    return excluded
