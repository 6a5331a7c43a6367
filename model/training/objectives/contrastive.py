"""Contrastive learning of pairs or triples with in-batch negatives.

    loss = mean over i of -log( exp(a_i . p_i / t) / sum over c of exp(a_i . c / t) )

with c every positive and negative of the batch (InfoNCE, arXiv:1807.03748), averaged over the
allowed widths (Matryoshka, arXiv:2205.13147), and over both directions where ``symmetric``.
A candidate equal to the anchor's own positive, or to the anchor, is excluded.

Shapes: n rows of a batch, C candidates, R vectors, E embedding width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.training.data.batch import Example
from osa.model.training.evaluation import retrieval_scores
from osa.model.training.objectives.base import EmbeddingObjective, Loss, ObjectiveInputs
from osa.model.training.objectives.registry import ContrastiveSection

ROLES = ("anchor", "positive", "negative")
KEYS_PER_EXAMPLE = 4


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
        assert inputs.model.tokenizer is not None  # pairs are texts
        self.tokenizer = inputs.model.tokenizer
        self.widths = inputs.model.config.allowed_dimensions

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """Two or three texts per row."""
        taken = self.store.take(rows)
        found = []
        for role, name in enumerate(ROLES):
            there = [(int(p), text) for p, text in zip(places, taken[name], strict=True) if text]
            encoded = self.tokenizer.encode([text for _, text in there], self.max_tokens)
            found += [
                Example(item.ids, (place * KEYS_PER_EXAMPLE + role,))
                for (place, _), item in zip(there, encoded, strict=True)
            ]
        return found

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
        """Candidates equal to an anchor or to its positive, other than that positive itself."""
        taken = self.store.take(rows)
        anchors, positives = np.array(taken["anchor"]), np.array(taken["positive"])
        candidates = np.array([*positives, *(text for text in taken["negative"] if text)])
        same = (positives[:, None] == candidates) | (anchors[:, None] == candidates)
        excluded = torch.from_numpy(same)
        excluded.diagonal().fill_(False)
        return excluded

    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """How well held-out anchors find their positives among all of them."""
        if self.held_out is None:
            return {}
        anchors, positives = (list(self.held_out.column(name)) for name in ROLES[:2])
        return retrieval_scores(model.encode(anchors), model.encode(positives))
