"""Answers of the routes for documents: vectors of tokens and of chunks, written as they come.

Shapes: n tokens or chunks of one input, N of all, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from osa.model.documents.chunk_ranges import Chunk
from osa.model.documents.document_vectors import group_chunks
from osa.model.text.slices import Check
from osa.service.api import headers
from osa.service.api.stages.answers import AnswerLimit, AnswerRows
from osa.service.api.vector_encoding import (
    BYTES,
    Answer,
    EmbeddingType,
    EncodingFormat,
    convert,
    encode_vector,
    vector_bytes,
    write_matrix,
    write_rows,
)
from osa.service.batching.item import ItemResult
from osa.service.inference.request import Embedded, PreparedRequest, unit

CHUNK_BYTES = 30
"""What a chunk has in an answer beside its vector and text, at least [bytes]."""


class VectorForm(NamedTuple):
    """How vectors of one input are written.

    Attributes:
        width: E, as asked for.
        normalize: Whether each has unit length.
        kind: Element type.
        encoding: Form.
    """

    width: int
    normalize: bool
    kind: EmbeddingType
    encoding: EncodingFormat

    def shape(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [n, E] of the width and length that was asked for."""
        cut = vectors[:, : self.width]
        return unit(cut) if self.normalize else cut

    @property
    def size(self) -> float:
        """About what a vector takes [bytes]."""
        return vector_bytes(self.width, self.kind, self.encoding)


class TokenVectors:
    """The answer of ``/embed_all``; the vectors of an input are dropped once they are written."""

    def __init__(self, inputs: int, form: VectorForm, limit: AnswerLimit, check: Check) -> None:
        """Write vectors of this many inputs.

        Args:
            inputs: Their number.
            form: How.
            limit: Of the answer.
            check: Called between steps.
        """
        self._form, self._check = form, check
        self._rows, self._lengths = AnswerRows(inputs, limit), [0] * inputs

    def take(self, place: int, result: ItemResult) -> ItemResult:
        """Write an input's vectors, and return the result without them. One thread at a time."""
        assert result.token_vectors is not None  # they were requested
        vectors, form = self._form.shape(result.token_vectors), self._form
        self._rows.put(place, write_matrix(vectors, form.kind, form.encoding, self._check))
        self._lengths[place] = len(vectors)
        return result._replace(token_vectors=None)

    def render(self) -> Answer:
        """The whole answer."""
        form = self._form
        if form.encoding != "bytes":
            return Answer(self._rows.json())
        elements = convert(np.zeros((1, form.width), np.float32), form.kind)
        described = {
            headers.SHAPE: f"{sum(self._lengths)},{elements.shape[1]}",
            headers.DTYPE: elements.dtype.name,
            headers.LENGTHS: ",".join(map(str, self._lengths)),
        }
        return Answer(b"".join(self._rows.rows), BYTES, described)

    def line(self, _: int, found: Embedded) -> Mapping[str, Any]:
        """The fields of an input's line in a streamed answer."""
        (vectors,), form = found.token_vectors, self._form
        matrix = write_matrix(form.shape(vectors), form.kind, form.encoding, self._check)
        return {"embeddings": orjson.Fragment(matrix)}

    def expected(self, prepared: PreparedRequest) -> float:
        """About how many bytes the answer has, at least."""
        return self._form.size * prepared.tokens

    def expected_line(self, prepared: PreparedRequest) -> float:
        """About how many bytes the longest line of a streamed answer has, at least."""
        return self._form.size * max(map(len, prepared.ids))


class ChunkVectors:
    """The answer of ``/embed_chunks``; the vectors of a document are dropped once written."""

    def __init__(
        self,
        texts: Sequence[str],
        form: VectorForm,
        return_text: bool,
        limit: AnswerLimit,
        check: Check,
        most: int | None = None,
    ) -> None:
        """Write chunks of these documents.

        Args:
            texts: The documents.
            form: How vectors are written.
            return_text: Whether each chunk's text is repeated.
            limit: Of the answer.
            check: Called between steps.
            most: Vectors of a document at most, for groups of its chunks; None for all chunks.
        """
        self._texts, self._form, self._return_text = texts, form, return_text
        self._rows, self._check, self._most = AnswerRows(len(texts), limit), check, most
        self.chunks: list[Sequence[Chunk]] = []
        """Of each document, in order; filled while they are cut."""

    def take(self, place: int, result: ItemResult) -> ItemResult:
        """Write a document's entry, and return the result without vectors."""
        assert result.span_vectors is not None  # they were requested
        self._rows.put(place, self._write(place, result.span_vectors))
        return result._replace(span_vectors=None)

    def render(self) -> Answer:
        """The whole answer."""
        return Answer(self._rows.json())

    def line(self, place: int, found: Embedded) -> Mapping[str, Any]:
        """The fields of a document's line in a streamed answer."""
        (vectors,) = found.span_vectors
        name = "chunks" if self._most is None else "vectors"
        return {name: orjson.Fragment(self._write(place, vectors))}

    def size(self, place: int) -> float:
        """About how many bytes a document's entry has, at least."""
        chunks, texts = self.chunks[place], 0
        count = len(chunks) if self._most is None else min(self._most, len(chunks))
        if self._return_text and self._most is None:
            texts = sum(chunk.end - chunk.start for chunk in chunks)
        elif self._return_text:
            texts = covered(chunks)
        return texts + count * (self._form.size + CHUNK_BYTES)

    def _write(self, place: int, vectors: np.ndarray) -> bytes:
        """JSON of a document's entries, with the vectors of its chunks [n, E]."""
        shaped, chunks = self._form.shape(vectors), self.chunks[place]
        if self._most is None:
            return self._entries(shaped, (self._range(place, *chunk[:2]) for chunk in chunks))
        found = group_chunks(shaped, chunks, self._most, self._check)
        described = (
            {"ranges": [self._range(place, *span) for span in spans], "weight": float(weight)}
            for spans, weight in zip(found.ranges, found.weights, strict=True)
        )
        return self._entries(found.vectors, described)

    def _entries(self, vectors: np.ndarray, described: Iterable[Mapping[str, Any]]) -> bytes:
        """JSON of vectors [n, E], each beside what describes it."""
        elements = np.ascontiguousarray(convert(vectors, self._form.kind))
        write: Callable[[np.ndarray], Any] = encode_vector
        if self._form.encoding == "float":
            write = _write_vector
        entries = []
        for fields, vector in zip(described, elements, strict=True):
            self._check()
            entries.append(orjson.dumps({**fields, "embedding": write(vector)}))
        return b"[" + b",".join(entries) + b"]"

    def _range(self, place: int, start: int, end: int) -> dict[str, Any]:
        """Characters of a document, with their text where that is asked for."""
        found: dict[str, Any] = {"start": start, "end": end}
        if self._return_text:
            found["text"] = self._texts[place][start:end]
        return found


def covered(chunks: Sequence[Chunk]) -> int:
    """Characters that are in at least one chunk."""
    total = reached = 0
    for chunk in sorted(chunks):
        total += max(0, chunk.end - max(chunk.start, reached))
        reached = max(reached, chunk.end)
    return total


def _write_vector(vector: np.ndarray) -> Any:
    return orjson.Fragment(write_rows(vector[None])[1:-1])
