"""What an objective is: examples for the network, and a loss of what comes out.

Two kinds. An ``EmbeddingObjective`` has a loss over all vectors of a batch at once (similarities
between examples); a ``TokenObjective`` has a loss that is a mean of independent terms.

Shapes: T packed tokens, S sequences, R vectors, E embedding width, F feature width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.training.data.batch import Example, Packed

if TYPE_CHECKING:
    from osa.model.training.data import Field


@dataclass
class Loss:
    """A loss, and the parts of it that are worth a column.

    Attributes:
        total: To be minimised.
        parts: By name.
    """

    total: Tensor
    parts: dict[str, float] = field(default_factory=dict)


class Objective(ABC):
    """What is learnt.

    Attributes:
        fields: What an example of the data has.
        head: Weights beside the encoder's; saved in ``head.safetensors``.
        parts: Names of the parts of its loss.
        scores: Names of what ``evaluate`` finds.
        identity: Digest of what decides the weights beside configuration and data.
    """

    fields: tuple[Field, ...]
    head: nn.Module
    parts: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    identity: str = ""

    @abstractmethod
    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """Sequences of some rows of the data.

        Args:
            rows: Of the data [n].
            places: Of these rows in the batch of all processes [n].
            step: Update, from 0: with the row it decides everything random.
        """

    @abstractmethod
    def forward(self, model: EmbeddingModel, head: nn.Module, packed: Packed) -> Tensor:
        """Vectors [R, E], or the sum of the terms of the loss."""

    @abstractmethod
    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Scores on the held-out data; empty where there is none."""

    def record(self) -> dict[str, object]:
        """What the checkpoint's ``training.json`` says about it."""
        return {}


class EmbeddingObjective(Objective):
    """A loss over all vectors of a batch."""

    def forward(
        self, model: EmbeddingModel, head: nn.Module, packed: Packed
    ) -> Float[Tensor, "R E"]:
        """One pooled vector a span, not normalised, in float32."""
        output = model.embed_spans(packed.inputs, packed.cu_seqlens, packed.spans)
        return (output.embeddings * output.norms[:, None]).float()

    @abstractmethod
    def loss(
        self, vectors: Float[Tensor, "R E"], keys: np.ndarray, sizes: np.ndarray, rows: np.ndarray
    ) -> Loss:
        """The loss of a whole batch.

        Args:
            vectors: Of all examples, ordered by their keys; not normalised.
            keys: Of the vectors, ascending [R].
            sizes: Length of what each vector is the mean of [R, tokens].
            rows: The batch [n]; places in keys refer to it.
        """


class TokenObjective(Objective):
    """A loss that is the mean of independent terms."""

    @abstractmethod
    def terms(self, examples: Sequence[Example]) -> int:
        """Number of terms that these examples have."""
