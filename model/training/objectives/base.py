"""Interfaces of the training objectives: examples for the network, and a loss of its output.

An ``EmbeddingObjective`` has a loss over all vectors of a batch at once (similarities
between examples); a ``TokenObjective`` has a loss that is a mean of independent terms.

Shapes: T packed tokens, S sequences, R vectors, E embedding width, F feature width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import HeadConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.layers.pooling import pool
from osa.model.tokenization import TextTokenizer
from osa.model.training.data.batch import Example, PackedBatch
from osa.model.training.data.store import ExampleStore
from osa.model.training.objectives.shared_sequences import SharedSequences

EVALUATION_TOKENS = 16384
"""Most tokens that an evaluation runs through the network at once."""


@dataclass
class Loss:
    """A loss, and the parts of it that get a column in ``metrics.csv``.

    Attributes:
        total: The loss to minimise.
        parts: Values by name.
    """

    total: Tensor
    parts: dict[str, float] = field(default_factory=dict)


class StartHead(NamedTuple):
    """The head of the checkpoint that a run starts from, taken off the model.

    Attributes:
        config: Its configuration.
        module: Its weights.
    """

    config: HeadConfig
    module: nn.Module


@dataclass(frozen=True)
class ObjectiveInputs:
    """Model, data and settings of the run, from which every objective is created.

    Attributes:
        model: The model to train.
        is_new: Whether its weights are random, not those of a checkpoint.
        store: Training data.
        held_out: Data for evaluation.
        max_tokens: Longest input [tokens].
        seed: Seed of everything random.
        progress: Show progress bars.
        start_head: The head that ``model`` had; None if it had none.
    """

    model: EmbeddingModel
    is_new: bool
    store: ExampleStore
    held_out: ExampleStore | None
    max_tokens: int
    seed: int
    progress: bool
    start_head: StartHead | None = None


def to_sequences(
    values: Sequence[Any], tokenizer: TextTokenizer | None, max_tokens: int
) -> list[Sequence[int] | np.ndarray]:
    """Ids of texts, or features as they are without a tokenizer; cut to ``max_tokens``."""
    if tokenizer is None:
        return [value[:max_tokens] for value in values]
    return [item.ids for item in tokenizer.encode(values, max_tokens)]


class Objective(ABC):
    """A training objective.

    Attributes:
        section: Settings, an ``ObjectiveSection``.
        takes_head: Whether it goes on with the head of the checkpoint to start from.
        head: Weights besides the encoder's; saved in ``head.safetensors`` (see ``finish``).
        notes: What the user should know before the first update.
        parts: Names of the parts of its loss.
        scores: Names of the scores of ``evaluate``.
        identity: Digest of what decides the weights besides configuration and data.
        shared: What computes sequences over several processes; None where each has its own.
    """

    takes_head: ClassVar[bool] = False
    parts: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    identity: str = ""
    shared: SharedSequences | None = None

    def __init__(self, section: Any, inputs: ObjectiveInputs) -> None:
        """Keep settings and data; subclasses set ``head`` if they have one."""
        self.section: Any = section
        self.head: nn.Module = nn.Identity()
        self.store, self.held_out = inputs.store, inputs.held_out
        self.max_tokens, self.seed = inputs.max_tokens, inputs.seed
        self.notes: list[str] = []
        if inputs.start_head is not None and not self.takes_head:
            self.notes.append(
                f"the {inputs.start_head.config.kind} head of the model to start from is left out: "
                "this objective trains the encoder"
            )

    @abstractmethod
    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """The sequences of some rows of the data.

        Args:
            rows: Rows of the store [n].
            places: Indices of these rows in the batch of all processes [n].
            step: Number of the update, from 0; with the row it seeds everything random.
        """

    @abstractmethod
    def forward(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        """Vectors [R, E], or the sum of the terms of the loss."""

    @abstractmethod
    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Scores on the held-out data; empty where there is none."""

    def finish(self, model: EmbeddingModel, head: nn.Module) -> nn.Module:
        """Turn the trained encoder into the model to save, in place.

        Returns:
            What is saved in ``head.safetensors``; a module without weights for no such file.
        """
        return head

    def record(self) -> dict[str, object]:
        """Entries of the objective in the checkpoint's ``training.json``."""
        return {}


class EmbeddingObjective(Objective):
    """An objective whose loss depends on all vectors of a batch at once.

    Attributes:
        bottleneck: What reduces the vectors of a batch before the loss; None for nothing.
        basis: Directions that the vectors of the batch are written in, where it did [E, k].
    """

    def __init__(self, section: Any, inputs: ObjectiveInputs) -> None:
        """Keep the bottleneck of the model too."""
        super().__init__(section, inputs)
        self.bottleneck = inputs.model.bottleneck
        self.basis: Tensor | None = None

    def forward(
        self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch
    ) -> Float[Tensor, "R E"]:
        """One pooled vector a span, not normalised or reduced, in float32."""
        if self.shared is not None:
            return model.project(self.shared.pooled(model, packed), reduce=False).float()
        if model.bottleneck is not None:
            hidden = model.encoder(packed.inputs, None, packed.cu_seqlens)
            pooled = pool(hidden, model.config.pooling, None, packed.spans)
            return model.project(pooled, reduce=False).float()
        output = model.embed_spans(packed.inputs, packed.cu_seqlens, packed.spans)
        return (output.embeddings * output.norms[:, None]).float()

    def batch_loss(
        self, vectors: Float[Tensor, "R E"], keys: np.ndarray, sizes: np.ndarray, rows: np.ndarray
    ) -> Loss:
        """``loss`` of what ``forward`` gave, reduced where the model has a bottleneck.

        Args:
            vectors: As in ``loss``, before the bottleneck.
            keys: As in ``loss``.
            sizes: As in ``loss``.
            rows: As in ``loss``.

        Raises:
            ConfigError: A batch of fewer vectors than the bottleneck has directions.
        """
        if self.bottleneck is not None:
            vectors, self.basis = self.bottleneck.reduce(vectors)
        return self.loss(vectors, keys, sizes, rows)

    @abstractmethod
    def loss(
        self, vectors: Float[Tensor, "R E"], keys: np.ndarray, sizes: np.ndarray, rows: np.ndarray
    ) -> Loss:
        """The loss of a whole batch.

        Args:
            vectors: Pooled vectors of all examples, in the order of ``keys``; not normalised.
            keys: Keys of the vectors (see ``Example``), ascending [R].
            sizes: Number of tokens that each vector is pooled from [R].
            rows: Rows of the batch [n]; places in keys are indices into it.
        """


class TokenObjective(Objective):
    """An objective whose loss is the mean of independent terms."""

    @abstractmethod
    def terms(self, examples: Sequence[Example]) -> int:
        """Number of terms in the loss of these examples."""
