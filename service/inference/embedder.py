"""The use case: texts or ids in, vectors out. Knows queue and engine, nothing of HTTP.

``prepare`` and ``finish`` are synchronous, and run on worker threads where they are long;
``submit`` runs on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import numpy as np

from osa.model.errors import ConfigError, InputError
from osa.model.tokenization import TextTokenizer
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import EngineInfo
from osa.service.errors import EmptyInputError, ServiceError, ValidationError
from osa.service.inference.inflight import Flights, Pending, key_of
from osa.service.inference.request import (
    Embedded,
    EmbedOptions,
    EmbedTimings,
    Inputs,
    PreparedRequest,
    Submission,
)
from osa.service.inference.vector_cache import VectorCache
from osa.service.observability.metrics import Metrics
from osa.service.settings import Settings


class Embedder:
    """Checks, tokenises, queues, waits, and shapes the vectors of one model."""

    def __init__(
        self,
        about: EngineInfo,
        tokenizer: TextTokenizer | None,
        queue: BatchQueue,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        """Bind the parts; the longest input is the least of the model's and the setting's.

        Raises:
            ConfigError: No batch could hold the longest input.
        """
        self.about, self.tokenizer = about, tokenizer
        self._queue, self.metrics, self._settings = queue, metrics, settings
        self.cache = VectorCache(settings.cache.max_bytes)
        self._flights = Flights(self.cache.put)
        own_limit = about.max_input_length
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
        prompt = self._prompt(options.prompt_name) if options.prompted else ""
        texts = [prompt + item for item in inputs if isinstance(item, str)]
        sequences = [item for item in inputs if not isinstance(item, str)]
        if texts:
            ids, truncated = self._tokenize(texts, options)
        else:
            if options.prompt_name is not None:
                raise ValidationError("prompts go before texts, not ids", param="prompt_name")
            ids, truncated = self._check_ids(sequences, options)
        return PreparedRequest(
            ids, options, sum(map(len, texts)), truncated, time.monotonic() - started
        )

    def _prompt(self, name: str | None) -> str:
        prompts = self._settings.model.prompts
        name = self._settings.model.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in prompts:
            there_are = ", ".join(sorted(prompts)) or "none"
            raise ValidationError(
                f"unknown prompt_name; prompts of this model: {there_are}", param="prompt_name"
            )
        return prompts[name]

    def _check_dimensions(self, dimensions: int | None) -> None:
        allowed = self.about.dimensions
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
        tokenizer = self.tokenizer
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
        vocab_size = self.about.vocab_size or 0
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

    def submit(
        self, prepared: PreparedRequest, deadline: float = math.inf, span: object = None
    ) -> Submission:
        """Queue every input, but for those that are cached or in flight; event loop only.

        Args:
            prepared: What ``prepare`` returned.
            deadline: When the answer is worth nothing any more (monotonic clock) [s].
            span: Of the request, where requests are traced.

        Raises:
            OverloadedError: The queue has no room.
            UnavailableError: The queue is closed.
        """
        loop = asyncio.get_running_loop()
        pending = Pending(loop, len(prepared.ids))
        flights, items, hits, shared = [], [], 0, 0
        wants_tokens = prepared.options.tokens
        for index, ids in enumerate(prepared.ids):
            key = key_of(ids, wants_tokens)
            held = self.cache.get(key)
            if held is not None:
                hits += 1
                pending.settle(index, held)
                continue
            joined = self._flights.join(key, deadline, pending, index)
            if joined is not None:
                shared += 1
                flights.append(joined)
                continue
            item = WorkItem(ids, deadline=deadline, wants_tokens=wants_tokens, span=span)
            items.append(item)
            flights.append(self._flights.begin(key, item, pending, index, loop))
        submission = Submission(pending, flights)
        if items:
            try:
                self._queue.put(items)
            except ServiceError:
                self._flights.leave(flights, pending)
                raise
        if self.cache.max_bytes:
            self.metrics.count_cache(hits, len(prepared.ids) - hits)
        if shared:
            self.metrics.count_shared(shared)
        return submission

    def withdraw(self, submission: Submission) -> None:
        """Take what nobody else waits for out of the queue at once."""
        orphans = self._flights.leave(submission.flights, submission.pending)
        if orphans:
            self.metrics.count_cancelled(self._queue.cancel(orphans))

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
