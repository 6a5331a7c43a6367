"""Classification of texts or feature sequences: a linear head on the pooled vector.

Shapes: S sequences, E embedding width, K classes, F feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.training.data.batch import Example, PackedBatch, pack, split_into_chunks
from osa.model.training.objectives.base import (
    EVALUATION_TOKENS,
    ObjectiveInputs,
    TokenObjective,
    to_sequences,
)
from osa.model.training.objectives.registry import ClassifySection


class Classification(TokenObjective):
    """Objective ``classify``.

    Attributes:
        classes: The labels, sorted; their order is that of the head's rows.
    """

    section: ClassifySection
    scores = ("held_out_loss", "accuracy")

    def __init__(self, section: ClassifySection, inputs: ObjectiveInputs) -> None:
        """Find the classes and create the head; see ``Objective``.

        Raises:
            ConfigError: Fewer than two classes, or a held-out label that training data lack.
        """
        super().__init__(section, inputs)
        model, held_out = inputs.model, inputs.held_out
        self.tokenizer = model.tokenizer
        self.classes: list[str | int] = sorted(set(inputs.store.column("label")))
        if len(self.classes) < 2:
            raise ConfigError(f"at least two different labels are needed, got {self.classes}")
        self._number = {label: number for number, label in enumerate(self.classes)}
        if held_out is not None:
            unknown = sorted(set(held_out.column("label")) - set(self.classes), key=str)
            if unknown:
                raise ConfigError(f"held-out label {unknown[0]!r} is not in the training data")
        self.head = nn.Linear(model.config.output_size, len(self.classes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """One sequence per row."""
        return self._examples(self.store.take(rows))

    def _examples(self, taken: dict[str, list[Any]]) -> list[Example]:
        numbers = [self._number[label] for label in taken["label"]]
        inputs = to_sequences(taken[self.section.input], self.tokenizer, self.max_tokens)
        return [
            Example(sequence, labels=[number])
            for sequence, number in zip(inputs, numbers, strict=True)
        ]

    def terms(self, examples: Sequence[Example]) -> int:
        """One term per sequence."""
        return len(examples)

    def forward(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        """Sum of the cross-entropies [nat]."""
        return F.cross_entropy(self._logits(model, head, packed), packed.labels, reduction="sum")

    def _logits(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        output = model(packed.inputs, None, packed.cu_seqlens)
        logits: Tensor = head(output.embeddings * output.norms[:, None])
        return logits.float()

    @torch.no_grad()
    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Mean loss [nat] and accuracy on the held-out examples."""
        if self.held_out is None:
            return {}
        device = next(model.parameters()).device
        loss = right = 0.0
        examples = self._examples(self.held_out.take(range(len(self.held_out))))
        for group in split_into_chunks(examples, EVALUATION_TOKENS):
            packed = pack(group, device)
            logits = self._logits(model, head, packed)
            loss += F.cross_entropy(logits, packed.labels, reduction="sum").item()
            right += (logits.argmax(-1) == packed.labels).sum().item()
        return {"held_out_loss": loss / len(examples), "accuracy": right / len(examples)}

    def record(self) -> dict[str, object]:
        """The classes, in the order of the head's rows."""
        return {"classes": self.classes}
