"""Texts or features to vectors by one engine, in batches of similar lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from osa.model.common.widths import width_problem
from osa.model.errors import ConfigError, OsaError
from osa.service.batching.faults.out_of_memory import MemoryLimit
from osa.service.batching.faults.split_failures import embed_each
from osa.service.batching.item import WorkItem
from osa.service.batching.planner import plan_batch
from osa.service.engines.base import Engine
from osa.service.errors import DeviceFaultError
from osa.service.inference.request import unit

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


class BulkEncoder:
    """An engine with what is asked of it.

    Attributes:
        engine: The engine.
        dimensions: Width of the vectors, E.
        dtype: Type of their elements.
        options: What becomes of texts; its longest text is the model's too.
        documents: Computes what is longer than the model takes at once; None where nothing is.
    """

    def __init__(
        self,
        engine: Engine,
        limits: BatchLimits,
        dimensions: int | None = None,
        dtype: Dtype = "float32",
        options: TextOptions | None = None,
        documents: SharedDocuments | None = None,
    ) -> None:
        """Bind an engine.

        Args:
            engine: Warmed up.
            limits: Of a batch.
            dimensions: Leading dimensions to keep; None for all.
            dtype: Type of the vectors' elements.
            options: Prompt, truncation and longest text.
            documents: Computes what is longer than the model takes at once; None where nothing is.

        Raises:
            ConfigError: The model takes neither text nor features, or has no vectors of that width.
        """
        info = engine.info
        if engine.tokenizer is None and info.feature_size is None:
            raise ConfigError("osa embed takes texts: this model has no tokenizer")
        if dimensions is not None and (problem := width_problem(dimensions, info.dimensions)):
            raise ConfigError(f"--dimensions {problem}")
        self.engine, self._texts = engine, limits.texts
        self.documents, self._at_once = documents, info.max_input_length
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
        return {
            "model_sha256": info.model_sha256,
            "backend": f"{info.backend}, {info.kernel}, {info.device}, {info.dtype}",
            "dimensions": self.dimensions,
            "dtype": self.dtype,
            **asdict(self.options),
        }

    def prepare(
        self, inputs: Sequence[str | np.ndarray]
    ) -> tuple[Sequence[Sequence[int] | np.ndarray], int, int]:
        """Ids of texts with their prompt, or features; cut where they are too long and may be.

        Returns:
            Ids or features of each, how many were cut, and how many tokens stand for what the
            vocabulary does not have.
        """
        limit = self._longest if self.options.truncate else None
        if self._tokenizer is None:
            rows = [np.asarray(features) for features in inputs]
            return (
                [row[:limit] for row in rows],
                sum(len(row) > (limit or len(row)) for row in rows),
                0,
            )
        texts = [str(text) for text in inputs]
        tokenized = self._tokenizer.encode(texts, limit, prompt=self.options.prompt)
        cut = sum(1 for text in tokenized if text.truncated)
        return [text.ids for text in tokenized], cut, sum(text.unknown for text in tokenized)

    def embed(
        self, ids: Sequence[Sequence[int] | np.ndarray], advance: Callable[[int], object]
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
        vectors = np.zeros((len(ids), self.dimensions), dtype=self.dtype)
        failed = {
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
            if not self._embed_document(np.asarray(ids[place]), place, vectors):
                failed[place] = f"the engine failed on this {self._unit}, even alone"
            advance(1)
        while waiting:
            lengths = (len(ids[place]) for place in waiting)
            chosen = set(plan_batch(lengths, self._limit.tokens, self._texts))
            batch = [place for turn, place in enumerate(waiting) if turn in chosen]
            waiting = [place for turn, place in enumerate(waiting) if turn not in chosen]
            for place in self._embed_batch(ids, batch, vectors):
                failed[place] = f"the engine failed on this {self._unit}, even alone"
            self._limit.fitted()
            advance(len(batch))
        if tried and len(failed) - refused == tried:
            raise EncodingError(f"the engine failed on each of {tried} {self._unit}s, even alone")
        return vectors, failed

    def _refusal(self, row: Sequence[int] | np.ndarray) -> str | None:
        """Why an input cannot be embedded, or None."""
        width = self.engine.info.feature_size
        if isinstance(row, np.ndarray) and row.shape[1] != width:
            return f"has rows of {row.shape[1]} numbers, this model takes {width}"
        if len(row) > self._longest:
            parts = "tokens" if width is None else "rows"
            return f"has {len(row)} {parts}, at most {self._longest} are allowed without truncation"
        return None

    def _embed_document(self, ids: np.ndarray, place: int, vectors: np.ndarray) -> bool:
        """Fill in the vector of an input that is computed in chunks; whether there is one."""
        assert self.documents is not None  # no engine without has longer inputs
        found = self.documents.lead(ids).output.embeddings.cpu().numpy()[:, : self.dimensions]
        if not np.isfinite(found).all():
            return False
        whole = self.dimensions == self.engine.info.dimensions[0]
        vectors[place] = found[0] if whole else unit(np.ascontiguousarray(found))[0]
        return True

    def _embed_batch(
        self, ids: Sequence[Sequence[int] | np.ndarray], batch: Sequence[int], vectors: np.ndarray
    ) -> list[int]:
        """Fill in the vectors of a batch; returns the places that have none.

        Raises:
            EncodingError: The device is broken.
        """
        items = [WorkItem(ids[place]) for place in batch]
        results = embed_each(lambda: self.engine, items, self._limit.exceeded)
        for result in results:
            if isinstance(result.error, DeviceFaultError):
                raise EncodingError(
                    f"{result.error}: a new process is needed; what is written is kept"
                )
        done = [
            (place, result.embedding)
            for place, result in zip(batch, results, strict=True)
            if result.embedding is not None
        ]
        if done:
            places, rows = zip(*done, strict=True)
            found = np.stack(rows)[:, : self.dimensions]
            shortened = self.dimensions < len(rows[0])
            vectors[list(places)] = unit(np.ascontiguousarray(found)) if shortened else found
        return sorted(set(batch) - {place for place, _ in done})
