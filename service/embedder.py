"""The use case: texts or ids in, vectors out. Knows queue and engine, nothing of HTTP.

``prepare`` and ``finish`` are synchronous and run on worker threads; ``submit`` runs on the event
loop and waits for the engine thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from osa.model.errors import ConfigError, InputError
from osa.model.tokenization import Direction
from osa.service.batching import BatchQueue, ItemResult, WorkItem
from osa.service.engines.base import Engine
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.metrics import Metrics
from osa.service.settings import Settings

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
    """

    normalize: bool = True
    truncate: bool | None = None
    direction: Direction = "right"
    dimensions: int | None = None
    tokens: bool = False


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


class Embedder:
    """Checks, tokenises, queues, waits, and shapes the vectors."""

    def __init__(
        self, engine: Engine, queue: BatchQueue, metrics: Metrics, settings: Settings
    ) -> None:
        """Bind the parts; the longest input is the least of the model's and the setting's.

        Raises:
            ConfigError: No batch could hold the longest input.
        """
        self._engine, self._queue, self._metrics = engine, queue, metrics
        self._settings = settings
        own_limit = engine.info.max_input_length
        self.max_input_length = min(settings.model.max_input_length or own_limit, own_limit)
        if self.max_input_length > settings.batching.max_batch_tokens:
            raise ConfigError(
                f"batching.max_batch_tokens ({settings.batching.max_batch_tokens}) cannot hold the "
                f"longest input ({self.max_input_length}): raise it, or lower "
                "model.max_input_length"
            )

    def prepare(self, inputs: Inputs, options: EmbedOptions, started: float) -> PreparedRequest:
        """Check and tokenise; ``started`` is when reading began (monotonic clock) [s].

        Raises:
            EmptyInputError: An input without a single token.
            ValidationError: Too many inputs, a dimension, an id or a length that is not allowed.
        """
        limit = self._settings.batching.max_client_batch_size
        if len(inputs) > limit:
            raise ValidationError(
                f"{len(inputs)} inputs in one request, at most {limit} are allowed", param="input"
            )
        self._check_dimensions(options.dimensions)
        texts = [item for item in inputs if isinstance(item, str)]
        sequences = [item for item in inputs if not isinstance(item, str)]
        if texts:
            ids, truncated = self._tokenize(texts, options)
        else:
            ids, truncated = self._check_ids(sequences, options)
        return PreparedRequest(
            ids, options, sum(map(len, texts)), truncated, time.monotonic() - started
        )

    def _check_dimensions(self, dimensions: int | None) -> None:
        allowed = self._engine.info.dimensions
        if dimensions is not None and dimensions not in allowed:
            raise ValidationError(
                f"dimensions must be one of {', '.join(map(str, allowed))}, got {dimensions}",
                param="dimensions",
            )

    def _truncates(self, options: EmbedOptions) -> bool:
        chosen = options.truncate
        return self._settings.model.auto_truncate if chosen is None else chosen

    def _tokenize(
        self, texts: list[str], options: EmbedOptions
    ) -> tuple[list[list[int]], list[int]]:
        tokenizer = self._engine.tokenizer
        if tokenizer is None:
            raise ValidationError("this model takes ids, not text", param="input")
        cut = self._truncates(options)
        limit = self.max_input_length
        try:
            tokenized = tokenizer.encode(texts, limit if cut else None, options.direction)
        except InputError as error:
            raise ValidationError(str(error), param="input") from error
        for index, text in enumerate(tokenized):
            self._check_length(index, len(text.ids))
        return [text.ids for text in tokenized], [text.truncated for text in tokenized]

    def _check_ids(
        self, sequences: Sequence[list[int]], options: EmbedOptions
    ) -> tuple[list[list[int]], list[int]]:
        vocab_size = self._engine.info.vocab_size or 0
        limit, kept, truncated = self.max_input_length, [], []
        for index, ids in enumerate(sequences):
            low, high = min(ids), max(ids)
            if low < 0 or high >= vocab_size:
                raise ValidationError(
                    f"input {index} holds id {low if low < 0 else high}, "
                    f"allowed are 0 to {vocab_size - 1}",
                    param="input",
                )
            surplus = max(0, len(ids) - limit) if self._truncates(options) else 0
            shorter = ids[surplus:] if options.direction == "left" else ids[: len(ids) - surplus]
            self._check_length(index, len(shorter))
            kept.append(shorter)
            truncated.append(surplus)
        return kept, truncated

    def _check_length(self, index: int, length: int) -> None:
        if not length:
            raise EmptyInputError(f"input {index} has no tokens", param="input")
        if length > self.max_input_length:
            raise ValidationError(
                f"input {index} has {length} tokens, at most {self.max_input_length} are allowed "
                "without truncation",
                param="input",
            )

    async def submit(
        self, prepared: PreparedRequest, deadline: float = math.inf
    ) -> list[ItemResult]:
        """Queue every input and wait for all results, in order.

        A caller that is cancelled takes its inputs out of the queue at once.

        Args:
            prepared: What ``prepare`` returned.
            deadline: When the answer is worth nothing any more (monotonic clock) [s].

        Raises:
            OverloadedError: The queue has no room.
            ServiceError: The first input's own failure.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[ItemResult]] = [loop.create_future() for _ in prepared.ids]
        items = [
            WorkItem(ids, partial(_resolve, loop, future), deadline, prepared.options.tokens)
            for ids, future in zip(prepared.ids, futures, strict=True)
        ]
        self._queue.put(items)
        try:
            results = await asyncio.gather(*futures)
        except BaseException:
            self._metrics.count_cancelled(self._queue.cancel(items))
            raise
        for index, result in enumerate(results):
            if result.error is not None:
                kind = type(result.error)
                raise kind(f"input {index}: {result.error}", param="input") from result.error
        return results

    def finish(
        self, prepared: PreparedRequest, results: Sequence[ItemResult]
    ) -> tuple[Embedded, EmbedTimings]:
        """Stack vectors, shortened, normalised or not, as asked; and the mean timings."""
        vectors = np.stack([result.embedding for result in results if result.embedding is not None])
        width = prepared.options.dimensions
        if width is not None and width < vectors.shape[1]:
            vectors = np.ascontiguousarray(vectors[:, :width])
            if prepared.options.normalize:
                vectors = unit(vectors)
        if not prepared.options.normalize:
            lengths = np.array([result.norm for result in results], dtype=np.float32)
            vectors = vectors * lengths[:, None]
        timings = EmbedTimings(
            prepared.tokenization_s,
            sum(result.queued_s for result in results) / len(results),
            sum(result.inference_s for result in results) / len(results),
        )
        tokens = [result.tokens[:, :width] for result in results if result.tokens is not None]
        return Embedded(vectors, tokens), timings


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, E] of length one; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(norms, 1e-12)
    return scaled


def _resolve(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[ItemResult], result: ItemResult
) -> None:
    """Hand a result from the engine thread to the event loop."""

    def settle() -> None:
        if not future.done():
            future.set_result(result)

    loop.call_soon_threadsafe(settle)
