"""What every engine offers. An engine is used by one thread at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from osa.model.tokenization import TextTokenizer


class EngineOutput(NamedTuple):
    """Vectors of a batch.

    Attributes:
        embeddings: Unit vectors, float32 [S, E].
        norms: Their lengths before normalising, float32 [S].
        tokens: Each sequence's token vectors, float32 [n, E], where they were asked for.
    """

    embeddings: np.ndarray
    norms: np.ndarray
    tokens: list[np.ndarray] | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What an engine runs.

    Attributes:
        backend: Name of the engine.
        device: Where it computes.
        dtype: What it computes in.
        kernel: Implementation of the attention operator.
        mixer: Token mixer of the model.
        pooling: How tokens become one vector.
        vocab_size: Number of ids; None for a feature model.
        max_input_length: Longest input that the model takes [tokens].
        dimensions: Widths that callers may ask for, full width first.
        model_sha256: Identity of the checkpoint.
    """

    backend: str
    device: str
    dtype: str
    kernel: str
    mixer: str
    pooling: str
    vocab_size: int | None
    max_input_length: int
    dimensions: tuple[int, ...]
    model_sha256: str


class Engine(Protocol):
    """Runs one model on packed batches of token ids."""

    @property
    def info(self) -> EngineInfo:
        """What this engine runs."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The model's tokenizer; thread-safe."""

    def warm_up(self) -> None:
        """Run once what the first request should not pay for."""

    def embed(
        self, sequences: Sequence[Sequence[int]], tokens: bool = False, exact: bool = False
    ) -> EngineOutput:
        """Embed one packed batch.

        Args:
            sequences: Ids of each input.
            tokens: Whether every token's own vector is wanted too.
            exact: Compute in float32 where the engine can; asked for after a result that was not
                finite.

        Raises:
            OsaError: The batch cannot be computed.
        """


WARM_UP_LENGTHS = (3, 24, 64, 65, 200, 512)


def run_warm_up(engine: Engine) -> None:
    """Embed sequences of lengths from both regimes of the operator, alone and in one batch."""
    longest = engine.info.max_input_length
    batch = [[1] * min(length, longest) for length in WARM_UP_LENGTHS]
    for ids in batch:
        engine.embed([ids])
    engine.embed(batch)
