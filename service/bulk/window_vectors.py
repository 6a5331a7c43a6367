"""The vectors of one window while they are computed: one an input, or a few a document.

Shapes: n inputs, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from osa.model.documents.chunk_ranges import Chunk
from osa.model.documents.document_vectors import DocumentVectors, group_chunks
from osa.model.documents.limits import CHUNK_TOKENS
from osa.model.streaming.passes import StreamOptions
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Engine
from osa.service.engines.streaming import StreamingEngine
from osa.service.inference.request import unit

if TYPE_CHECKING:
    from osa.model.streaming.shared import SharedDocuments

Ids = Sequence[Sequence[int] | np.ndarray]
"""Token ids of each text, or features of each sequence [n]."""


@dataclass(frozen=True)
class Grouping:
    """How a document becomes several vectors.

    Attributes:
        vectors: At most so many.
        chunk_tokens: Most tokens of the chunks that are grouped.
    """

    vectors: int
    chunk_tokens: int = CHUNK_TOKENS


class WindowVectors(Protocol):
    """What a run computes of a window."""

    def item(self, place: int) -> WorkItem:
        """The work of an input in a batch."""

    def keep(self, results: Sequence[tuple[int, ItemResult]]) -> None:
        """Keep the results of a batch; at least one, all without an error."""

    def compute_long(self, place: int) -> bool:
        """Compute an input that no batch holds; whether there is a result."""


class TextVectors:
    """One vector an input.

    Attributes:
        vectors: Of all, zero where there is none yet [n, E].
    """

    def __init__(
        self, ids: Ids, shape: tuple[int, bool], dtype: str, documents: SharedDocuments | None
    ) -> None:
        """Expect the vectors of these inputs.

        Args:
            ids: The inputs.
            shape: E, and whether that is the model's full width.
            dtype: Type of the elements.
            documents: Computes long inputs; None where no engine does.
        """
        self._ids, (self._width, self._whole) = ids, shape
        self._documents = documents
        self.vectors = np.zeros((len(ids), self._width), dtype=dtype)

    def item(self, place: int) -> WorkItem:
        """As ``WindowVectors.item``."""
        return WorkItem(self._ids[place])

    def keep(self, results: Sequence[tuple[int, ItemResult]]) -> None:
        """As ``WindowVectors.keep``."""
        rows = np.stack([one.embedding for _, one in results if one.embedding is not None])
        self.vectors[[place for place, _ in results]] = self._cut(rows)

    def compute_long(self, place: int) -> bool:
        """As ``WindowVectors.compute_long``."""
        assert self._documents is not None  # no engine without has longer inputs
        document = self._documents.lead(np.asarray(self._ids[place]))
        found = document.output.embeddings.cpu().numpy()
        if not np.isfinite(found).all():
            return False
        self.vectors[place] = self._cut(found)[0]
        return True

    def _cut(self, rows: np.ndarray) -> np.ndarray:
        """Unit vectors [n, E] in their leading dimensions."""
        return rows if self._whole else unit(np.ascontiguousarray(rows[:, : self._width]))


class GroupedVectors:
    """A few vectors a document, of the groups of its chunks.

    Attributes:
        documents: Of those that are done, by place.
    """

    def __init__(
        self,
        ids: Ids,
        chunks: Sequence[Sequence[Chunk]],
        engine: Engine,
        width: int,
        most: int,
    ) -> None:
        """Expect the vectors of these documents.

        Args:
            ids: The documents, special tokens included.
            chunks: Of each.
            engine: Which computes them.
            width: E.
            most: Vectors of a document at most.
        """
        assert engine.tokenizer is not None  # features have no chunks
        self._ids, self._chunks, self._engine = ids, chunks, engine
        self._before, self._width, self._most = len(engine.tokenizer.prefix), width, most
        self.documents: dict[int, DocumentVectors] = {}

    def item(self, place: int) -> WorkItem:
        """As ``WindowVectors.item``."""
        return WorkItem(self._ids[place], spans=self._spans(place))

    def keep(self, results: Sequence[tuple[int, ItemResult]]) -> None:
        """As ``WindowVectors.keep``."""
        for place, result in results:
            assert result.span_vectors is not None  # they were requested
            self._group(place, result.span_vectors)

    def compute_long(self, place: int) -> bool:
        """As ``WindowVectors.compute_long``."""
        assert isinstance(self._engine, StreamingEngine)  # no other has longer inputs
        found: dict[int, np.ndarray] = {}
        spans, ids = self._spans(place), np.asarray(self._ids[place])
        for step in self._engine.stream(ids, spans, StreamOptions()):
            found.update((span, vector.numpy()) for span, vector in step.spans)
        vectors = np.stack([found[span] for span in range(len(spans))])
        if not np.isfinite(vectors).all():
            return False
        self._group(place, vectors)
        return True

    def _spans(self, place: int) -> list[tuple[int, int]]:
        before = self._before
        return [(before + chunk.first, before + chunk.stop) for chunk in self._chunks[place]]

    def _group(self, place: int, vectors: np.ndarray) -> None:
        rows = unit(vectors[:, : self._width])
        self.documents[place] = group_chunks(rows, self._chunks[place], self._most)
