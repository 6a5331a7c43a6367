"""Texts to vectors by one engine: batches of like lengths; blame falls on the right input."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from osa.model.errors import ConfigError, OsaError
from osa.model.tokenization import TextTokenizer, TokenizedText
from osa.service.batching import plan_batch
from osa.service.embedder import unit
from osa.service.engines.base import Engine

logger = logging.getLogger(__name__)
Dtype = Literal["float32", "float16"]


class EncodingError(OsaError):
    """The engine computes nothing."""

    code = "encoding"


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be [tokens], [texts]."""

    tokens: int
    texts: int


class BulkEncoder:
    """An engine with what is asked of it.

    Attributes:
        dimensions: Width of the vectors, E.
        dtype: Type of their elements.
        max_input_length: Longest text; longer ones are cut [tokens].
    """

    def __init__(
        self,
        engine: Engine,
        limits: BatchLimits,
        dimensions: int | None = None,
        dtype: Dtype = "float32",
        max_input_length: int | None = None,
    ) -> None:
        """Bind an engine that is warmed up.

        Raises:
            ConfigError: The model takes no text, or has no vectors of that width.
        """
        info = engine.info
        if engine.tokenizer is None:
            raise ConfigError("osa embed takes texts: this model has no tokenizer")
        if dimensions is not None and dimensions not in info.dimensions:
            allowed = ", ".join(map(str, info.dimensions))
            raise ConfigError(f"--dimensions must be one of {allowed}, got {dimensions}")
        self.engine, self._limits = engine, limits
        self._tokenizer: TextTokenizer = engine.tokenizer
        self.dimensions, self.dtype = dimensions or info.dimensions[0], dtype
        own = info.max_input_length
        self.max_input_length = min(max_input_length or own, own)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Ids of texts, cut on the right where they are too long."""
        return self._tokenizer.encode(texts, self.max_input_length)

    def embed(
        self, ids: Sequence[Sequence[int]], advance: Callable[[int], object]
    ) -> tuple[np.ndarray, list[int]]:
        """Unit vectors of one window, in its order.

        Args:
            ids: Token ids of each text [n].
            advance: Told how many texts are done, after every batch.

        Returns:
            Vectors [n, E], zero where there is none, and the places that have none: the engine
            failed on them alone, or gave no finite numbers.

        Raises:
            EncodingError: Not one text could be computed.
        """
        vectors = np.zeros((len(ids), self.dimensions), dtype=self.dtype)
        failed: list[int] = []
        waiting = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        while waiting:
            lengths = (len(ids[place]) for place in waiting)
            chosen = set(plan_batch(lengths, self._limits.tokens, self._limits.texts))
            batch = [place for turn, place in enumerate(waiting) if turn in chosen]
            waiting = [place for turn, place in enumerate(waiting) if turn not in chosen]
            failed += self._embed_batch(ids, batch, vectors)
            advance(len(batch))
        if ids and len(failed) == len(ids):
            raise EncodingError(f"the engine failed on each of {len(ids)} texts, even alone")
        return vectors, sorted(failed)

    def _embed_batch(
        self, ids: Sequence[Sequence[int]], batch: Sequence[int], vectors: np.ndarray
    ) -> list[int]:
        """Fill in the vectors of a batch; halve it where it fails. Returns who has none."""
        try:
            found = self.engine.embed([ids[place] for place in batch]).embeddings
        except Exception as error:  # the boundary: blame is found by halving
            if len(batch) == 1:
                logger.warning("engine failed on one input", extra={"kind": type(error).__name__})
                return list(batch)
            middle = len(batch) // 2
            halves = (batch[:middle], batch[middle:])
            return [place for half in halves for place in self._embed_batch(ids, half, vectors)]
        finite = np.isfinite(found).all(axis=1)
        if self.dimensions < found.shape[1]:
            found = unit(np.ascontiguousarray(found[:, : self.dimensions]))
        done = [turn for turn, good in enumerate(finite) if good]
        vectors[[batch[turn] for turn in done]] = found[done]
        bad = [place for place, good in zip(batch, finite, strict=True) if not good]
        if len(batch) == 1:
            return bad
        return [place for one in bad for place in self._embed_batch(ids, [one], vectors)]
