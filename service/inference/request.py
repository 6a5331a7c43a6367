"""A request on its way through the use case: options, prepared inputs, submission, result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from osa.model.config import Task
from osa.model.sequences import InputRows
from osa.model.tokenization import Direction
from osa.service.batching.item import ItemResult
from osa.service.engines.base import Spans
from osa.service.errors import ServiceError
from osa.service.inference.inflight import InFlightInput, PendingRequest

Pair = tuple[str, str]
"""Two texts that are one input, for classifiers and rerankers."""
Inputs = (
    Sequence[str]
    | Sequence[list[int]]
    | Sequence[np.ndarray]
    | Sequence[str | Pair]
    | Sequence[str | list[int]]
)
"""Texts, pairs of texts, ids of each sequence, texts and ids mixed, or features of each, float32
[n, F]."""


class EmbedOptions(NamedTuple):
    """What a caller may ask for.

    Attributes:
        normalize: Unit vectors; otherwise pooled vectors with their own length.
        truncate: Truncate inputs that are too long; None for the server's default.
        direction: Which side is truncated.
        dimensions: Leading dimensions to return; None for all.
        token_vectors: Whether the vector of every token is requested.
        prompt_name: Name of the prompt that is put before every text; None for the default one.
        parse_special: Whether names of special tokens in texts are control tokens.
        prompted: Whether prompts apply; not where tokens are matched with the text's characters.
        tasks: What the model must do, one of these; empty for anything.
        queries: How many inputs are queries that the others are compared with, which the limit of
            inputs does not count.
    """

    normalize: bool = True
    truncate: bool | None = None
    direction: Direction = "right"
    dimensions: int | None = None
    token_vectors: bool = False
    prompt_name: str | None = None
    parse_special: bool = False
    prompted: bool = True
    tasks: tuple[Task, ...] = ("embedding",)
    queries: int = 0


class PreparedRequest(NamedTuple):
    """Checked, tokenised inputs.

    Attributes:
        ids: Token ids of each input, or features, float32 [n, F].
        options: What was asked for.
        characters: Characters of all texts.
        truncated: Tokens, or rows of features, cut from each input.
        started: When reading began (monotonic clock) [s].
        tokenization_s: Time that parsing and tokenising took [s].
        spans: Token ranges of each input whose vectors are requested; None where none are.
        unknown: Tokens, of all inputs, for what the vocabulary does not have.
        digests: Of the documents among the inputs, as of ``digest_of``, by their places.
    """

    ids: InputRows
    options: EmbedOptions
    characters: int
    truncated: list[int]
    started: float
    tokenization_s: float
    spans: Sequence[Spans] | None = None
    unknown: int = 0
    digests: Mapping[int, bytes] = {}

    @property
    def tokens(self) -> int:
        """Tokens, or rows of features, of all inputs."""
        return sum(map(len, self.ids))


class Submission(NamedTuple):
    """A request whose inputs are queued or in the engine.

    Attributes:
        pending: Resolves when all results have come.
        inputs: What it waits for.
    """

    pending: PendingRequest
    inputs: list[InFlightInput]

    def results(self) -> list[ItemResult]:
        """Results of all inputs, in order, once they have come.

        Raises:
            ServiceError: The first failing input's own.
        """
        found = []
        for index, result in enumerate(self.pending.results):
            assert result is not None  # asked for too early
            if result.error is not None:
                raise failed(index, result.error)
            found.append(result)
        return found


def failed(index: int, error: ServiceError) -> ServiceError:
    """The error of a request whose input ``index`` has failed with ``error``."""
    found = error.again(f"input {index}: {error}")
    found.param, found.__cause__ = "input", error
    return found


class Embedded(NamedTuple):
    """Vectors of a request.

    Attributes:
        vectors: One for each input [n, E], as asked for.
        token_vectors: Of every token [length, E], special tokens included, not normalised; if
            requested.
        span_vectors: Of every span [m, E], not normalised; if requested.
    """

    vectors: np.ndarray
    token_vectors: Sequence[np.ndarray] = ()
    span_vectors: Sequence[np.ndarray] = ()


def stage_times(prepared: PreparedRequest, results: Sequence[ItemResult]) -> dict[str, float]:
    """Durations of a request's stages, means over its inputs [s]; at least one result.

    The keys are the stages' names in metrics, traces and headers, in their order.
    """
    queued_s = inference_s = 0.0
    for result in results:
        queued_s += result.queued_s
        inference_s += result.inference_s
    count = len(results)
    return {
        "tokenization": prepared.tokenization_s,
        "queue": queued_s / count,
        "inference": inference_s / count,
    }


def finish(prepared: PreparedRequest, results: Sequence[ItemResult]) -> Embedded:
    """Stack the vectors, cut to the dimensions and normalised as asked."""
    vectors = np.stack([result.embedding for result in results if result.embedding is not None])
    width = prepared.options.dimensions
    if width is not None and width < vectors.shape[1]:
        vectors = np.ascontiguousarray(vectors[:, :width])
        if prepared.options.normalize:
            vectors = unit(vectors)
    if not prepared.options.normalize:
        lengths = np.array([result.norm for result in results], dtype=np.float32)
        vectors = vectors * lengths[:, None]
    if not prepared.options.token_vectors and prepared.spans is None:
        return Embedded(vectors)
    details = [(result.token_vectors, result.span_vectors) for result in results]
    tokens, spans = (
        [part[:, :width] for part in parts if part is not None]
        for parts in zip(*details, strict=True)
    )
    return Embedded(vectors, tokens, spans)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, E] normalised to length one; zero vectors stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(norms, 1e-12)
    return scaled
