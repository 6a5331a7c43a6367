"""Texts or features to vectors by one engine, in batches of similar lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from osa.model.common.widths import width_problem
from osa.model.documents.chunk_ranges import Chunk, split
from osa.model.documents.document_vectors import DocumentVectors
from osa.model.errors import ConfigError, OsaError
from osa.service.batching.faults.out_of_memory import MemoryLimit
from osa.service.batching.faults.split_failures import embed_each
from osa.service.batching.planner import plan_batch
from osa.service.bulk.window_vectors import (
    GroupedVectors,
    Grouping,
    Ids,
    TextVectors,
    WindowVectors,
)
from osa.service.engines.base import Engine
from osa.service.errors import DeviceFaultError

if TYPE_CHECKING:
    from osa.model.streaming.shared import SharedDocuments

Dtype = Literal["float32", "float16"]


class EncodingError(OsaError):
    """The engine computes nothing."""

    code = "encoding"


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be [tokens], [texts]."""

    tokens: int
    texts: int


@dataclass(frozen=True)
class TextOptions:
    """What becomes of a text, or of features, before it is embedded.

    Attributes:
        prompt: What is put before a text.
        truncate: Whether it is cut, on the right, where it is too long.
        max_input_length: Longest input; None for the model's own limit [tokens or rows].
    """

    prompt: str = ""
    truncate: bool = True
    max_input_length: int | None = None


class Tokenized(NamedTuple):
    """Inputs as the engine takes them.

    Attributes:
        ids: Token ids with the prompt's, or features, of each.
        truncated: How many were cut.
        unknown: Tokens that stand for what the vocabulary does not have.
        chunks: Of each document; None where an input has one vector.
    """

    ids: Ids
    truncated: int
    unknown: int = 0
    chunks: Sequence[Sequence[Chunk]] | None = None


class BulkEncoder:
    """An engine with what is asked of it.

    Attributes:
        engine: The engine.
        dimensions: Width of the vectors, E.
        dtype: Type of their elements.
        options: What becomes of texts; its longest text is the model's too.
        documents: Computes what is longer than the model takes at once; None where nothing is.
        grouping: How a document becomes several vectors; None for one vector an input.
    """

    def __init__(
        self,
        engine: Engine,
        limits: BatchLimits,
        dimensions: int | None = None,
        dtype: Dtype = "float32",
        options: TextOptions | None = None,
        documents: SharedDocuments | None = None,
        grouping: Grouping | None = None,
    ) -> None:
        """Bind an engine.

        Args:
            engine: Warmed up.
            limits: Of a batch.
            dimensions: Leading dimensions to keep; None for all.
            dtype: Type of the vectors' elements.
            options: Prompt, truncation and longest text.
            documents: Computes what is longer than the model takes at once; None where nothing is.
            grouping: As the attribute.

        Raises:
            ConfigError: The model takes neither text nor features, or has no vectors of that width;
                or features are to be cut into chunks.
        """
        info = engine.info
        if engine.tokenizer is None and info.feature_size is None:
            raise ConfigError("osa embed takes texts: this model has no tokenizer")
        if grouping is not None and engine.tokenizer is None:
            raise ConfigError("--vectors-per-document cuts texts, this model takes features")
        if grouping is not None and info.no_spans:
            raise ConfigError(f"--vectors-per-document: {info.no_spans}")
        if dimensions is not None and (problem := width_problem(dimensions, info.dimensions)):
            raise ConfigError(f"--dimensions {problem}")
        self.engine, self._texts = engine, limits.texts
        self.documents, self._at_once = documents, info.max_input_length
        self.grouping = grouping
        self._limit = MemoryLimit(limits.tokens, recovery_batches=1)
        self._tokenizer = engine.tokenizer
        self._unit = "text" if info.feature_size is None else "sequence"
        self.dimensions, self.dtype = dimensions or info.dimensions[0], dtype
        options = options or TextOptions()
        self._longest = info.limit_input(options.max_input_length)
        self.options = replace(options, max_input_length=self._longest)

    def identity(self) -> dict[str, Any]:
        """What decides the vectors: model, arithmetic, and what is asked of them."""
        info = self.engine.info
        grouping: dict[str, int] = {}
        if self.grouping is not None:
            grouping = {
                "vectors_per_document": self.grouping.vectors,
                "chunk_tokens": self.grouping.chunk_tokens,
            }
        return {
            "model_sha256": info.model_sha256,
            "backend": f"{info.backend}, {info.kernel}, {info.device}, {info.dtype}",
            "dimensions": self.dimensions,
            "dtype": self.dtype,
            **asdict(self.options),
            **grouping,
        }

    def prepare(self, inputs: Sequence[str | np.ndarray]) -> Tokenized:
        """Ids of texts with their prompt, or features; cut where they are too long and may be."""
        limit = self._longest if self.options.truncate else None
        if self._tokenizer is None:
            rows = [np.asarray(features) for features in inputs]
            cut = sum(len(row) > (limit or len(row)) for row in rows)
            return Tokenized([row[:limit] for row in rows], cut)
        texts = [str(text) for text in inputs]
        if self.grouping is not None:
            return self._chunks(texts, limit, self.grouping.chunk_tokens)
        tokenized = self._tokenizer.encode(texts, limit, prompt=self.options.prompt)
        cut = sum(1 for text in tokenized if text.truncated)
        unknown = sum(text.unknown for text in tokenized)
        return Tokenized([text.ids for text in tokenized], cut, unknown)

    def _chunks(self, texts: Sequence[str], limit: int | None, size: int) -> Tokenized:
        """Ids and chunks of documents; the characters of their tokens are dropped one by one."""
        assert self._tokenizer is not None  # there is text
        ids: list[Sequence[int]] = []
        chunks: list[list[Chunk]] = []
        cut = unknown = 0
        tokenized = self._tokenizer.iterate(texts, limit, offsets=True)
        for text, found in zip(texts, tokenized, strict=True):
            ids.append(found.ids)
            chunks.append(split(text, found.offsets, size=size))
            cut += found.truncated > 0
            unknown += found.unknown
        return Tokenized(ids, cut, unknown, chunks)

    def embed(
        self, ids: Ids, advance: Callable[[int], object]
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Unit vectors of one window, in its order.

        Args:
            ids: Token ids of each text, or features of each sequence [n].
            advance: Told how many are done, after every batch.

        Returns:
            Vectors [n, E], zero where there is none, and the places that have none with the reason.

        Raises:
            EncodingError: Not one could be computed, or the device is broken.
        """
        whole = self.dimensions == self.engine.info.dimensions[0]
        work = TextVectors(ids, (self.dimensions, whole), self.dtype, self.documents)
        failed = self._compute(ids, work, {}, advance)
        return work.vectors, failed

    def embed_documents(
        self, ids: Ids, chunks: Sequence[Sequence[Chunk]], advance: Callable[[int], object]
    ) -> tuple[dict[int, DocumentVectors], dict[int, str]]:
        """Several vectors of each document of one window.

        Args:
            ids: Token ids of each.
            chunks: Chunks of each.
            advance: As for ``embed``.

        Returns:
            Vectors by place, and the places that have none with the reason.

        Raises:
            EncodingError: As ``embed``.
        """
        assert self.grouping is not None  # there are no chunks otherwise
        most = self.grouping.vectors
        work = GroupedVectors(ids, chunks, self.engine, self.dimensions, most)
        blank = {place: "has no tokens" for place, found in enumerate(chunks) if not found}
        return work.documents, self._compute(ids, work, blank, advance)

    def _compute(
        self,
        ids: Ids,
        work: WindowVectors,
        failed: dict[int, str],
        advance: Callable[[int], object],
    ) -> dict[int, str]:
        """Compute a window, in batches of similar lengths; places without a result, and why.

        Args:
            ids: Of the inputs [n].
            work: Their vectors.
            failed: Places that have none, with the reason.
            advance: As for ``embed``.

        Raises:
            EncodingError: As ``embed``.
        """
        failed = failed | {
            place: reason
            for place, row in enumerate(ids)
            if (reason := self._refusal(row)) is not None
        }
        waiting = sorted(
            (place for place in range(len(ids)) if place not in failed),
            key=lambda place: -len(ids[place]),
        )
        tried, refused = len(waiting), len(failed)
        for place in [place for place in waiting if len(ids[place]) > self._at_once]:
            waiting.remove(place)
            if not work.compute_long(place):
                failed[place] = f"the engine failed on this {self._unit}, even alone"
            advance(1)
        while waiting:
            lengths = (len(ids[place]) for place in waiting)
            chosen = set(plan_batch(lengths, self._limit.tokens, self._texts))
            batch = [place for turn, place in enumerate(waiting) if turn in chosen]
            waiting = [place for turn, place in enumerate(waiting) if turn not in chosen]
            for place in self._embed_batch(work, batch):
                failed[place] = f"the engine failed on this {self._unit}, even alone"
            self._limit.fitted()
            advance(len(batch))
        if tried and len(failed) - refused == tried:
            raise EncodingError(f"the engine failed on each of {tried} {self._unit}s, even alone")
        return failed

    def _refusal(self, row: Sequence[int] | np.ndarray) -> str | None:
        """Why an input cannot be embedded, or None."""
        width = self.engine.info.feature_size
        if isinstance(row, np.ndarray) and row.shape[1] != width:
            return f"has rows of {row.shape[1]} numbers, this model takes {width}"
        if len(row) > self._longest:
            parts = "tokens" if width is None else "rows"
            return f"has {len(row)} {parts}, at most {self._longest} are allowed without truncation"
        return None

    def _embed_batch(self, work: WindowVectors, batch: Sequence[int]) -> list[int]:
        """Compute a batch; returns the places that have no result.

        Raises:
            EncodingError: The device is broken.
        """
        items = [work.item(place) for place in batch]
        results = embed_each(lambda: self.engine, items, self._limit.exceeded)
        for result in results:
            if isinstance(result.error, DeviceFaultError):
                raise EncodingError(
                    f"{result.error}: a new process is needed; what is written is kept"
                )
        every = zip(batch, results, strict=True)
        done = [(place, result) for place, result in every if result.embedding is not None]
        if done:
            work.keep(done)
        return sorted(set(batch) - {place for place, _ in done})
