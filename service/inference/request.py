"""A request on its way through the use case: what was asked, what was read, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osa.model.tokenization import Direction
from osa.service.batching.item import ItemResult
from osa.service.inference.inflight import Flight, Pending

Inputs = Sequence[str] | Sequence[list[int]]


@dataclass(frozen=True)
class EmbedOptions:
    """What a caller may ask for.

    Attributes:
        normalize: Unit vectors; otherwise pooled vectors with their own length.
        truncate: Cut inputs that are too long; None for the server's default.
        direction: Which side is cut.
        dimensions: Leading dimensions to return; None for all.
        tokens: Whether every token's own vector is wanted.
        prompt_name: Name of the prompt that goes before every text; None for the default one.
        prompted: Whether a prompt may go before the texts; not where tokens are matched with the
            text's own characters.
    """

    normalize: bool = True
    truncate: bool | None = None
    direction: Direction = "right"
    dimensions: int | None = None
    tokens: bool = False
    prompt_name: str | None = None
    prompted: bool = True


@dataclass(frozen=True)
class PreparedRequest:
    """Checked, tokenised inputs.

    Attributes:
        ids: Token ids of each input.
        options: What was asked for.
        characters: Characters of all texts.
        truncated: Tokens cut from each input.
        tokenization_s: Time that parsing and tokenising took [s].
    """

    ids: list[list[int]]
    options: EmbedOptions
    characters: int
    truncated: list[int]
    tokenization_s: float

    @property
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return sum(map(len, self.ids))


@dataclass(frozen=True)
class Submission:
    """A request whose inputs are on their way.

    Attributes:
        pending: Resolves when all have come.
        flights: What it waits for.
    """

    pending: Pending
    flights: list[Flight]

    def results(self) -> list[ItemResult]:
        """Results of all inputs, in order, once they have come.

        Raises:
            ServiceError: The first failing input's own.
        """
        found = []
        for index, result in enumerate(self.pending.results):
            assert result is not None  # asked for too early
            if result.error is not None:
                kind = type(result.error)
                raise kind(f"input {index}: {result.error}", param="input") from result.error
            found.append(result)
        return found


@dataclass(frozen=True)
class Embedded:
    """Vectors of a request.

    Attributes:
        vectors: One an input [n, E], as asked for.
        tokens: Every token's own [length, E], special tokens included, not normalised; where
            they were asked for.
    """

    vectors: np.ndarray
    tokens: list[np.ndarray]


@dataclass(frozen=True)
class EmbedTimings:
    """Where the time of a request went, mean over its inputs [s]."""

    tokenization_s: float
    queue_s: float
    inference_s: float
