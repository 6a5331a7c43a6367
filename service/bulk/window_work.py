"""From a window of records to rows with vectors, and what is noted of them.

A record with several vectors becomes as many rows, each with all its columns: what databases of
vectors load without another step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from osa.model.documents.chunk_ranges import Chunk
from osa.model.documents.document_vectors import DocumentVectors
from osa.model.records.record import Problem
from osa.model.sequences import InputRows
from osa.service.bulk.encoder import BulkEncoder
from osa.service.bulk.inputs.sources import OF_GROUPS
from osa.service.bulk.run_directory import Note
from osa.service.bulk.windows import Window, rows_at

ARROW_FLOATS = {"float32": pa.float32(), "float16": pa.float16()}


@dataclass
class Summary:
    """What a run has done, parts of an earlier one included.

    Attributes:
        texts: Texts, or sequences of features, embedded.
        vectors: Their vectors, a row each.
        tokens: Their tokens, or rows.
        truncated: Of them, those that were cut.
        unknown: Tokens for what the vocabulary does not have.
        skipped: Bad records by kind.
    """

    texts: int = 0
    vectors: int = 0
    tokens: int = 0
    truncated: int = 0
    unknown: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, note: Note) -> None:
        """Count a part."""
        self.texts += note["texts"]
        self.vectors += note["vectors" if "vectors" in note else "texts"]
        self.tokens += note["tokens"]
        self.truncated += note["truncated"]
        self.unknown += note.get("unknown", 0)
        self.skipped.update(note["skipped"])

    def to_note(self) -> Note:
        """As JSON."""
        return {**self.__dict__, "skipped": dict(sorted(self.skipped.items()))}


@dataclass(frozen=True)
class Prepared:
    """A window, and its ids or features unless an earlier run has embedded it.

    Attributes:
        window: The window.
        ids: Ids or features of each input [n].
        truncated: How many were cut.
        unknown: Tokens for what the vocabulary does not have.
        chunks: Of each document; None where an input has one vector.
    """

    window: Window
    ids: InputRows
    truncated: int = 0
    unknown: int = 0
    chunks: Sequence[Sequence[Chunk]] | None = None


def added_fields(name: str, dimensions: int, dtype: str, grouped: bool) -> list[pa.Field]:
    """The columns that the output adds.

    Args:
        name: Of the column of vectors.
        dimensions: Their width.
        dtype: Type of their elements.
        grouped: Whether a record has several.
    """
    vectors = pa.field(name, pa.list_(ARROW_FLOATS[dtype], dimensions), nullable=False)
    more = OF_GROUPS.items() if grouped else ()
    return [vectors, *(pa.field(one, kind, nullable=False) for one, kind in more)]


def prepare(encoder: BulkEncoder, window: Window) -> Prepared:
    """Tokenise a window."""
    return Prepared(window, *encoder.prepare(window.inputs))


def embed_window(
    encoder: BulkEncoder,
    prepared: Prepared,
    added: Sequence[pa.Field],
    advance: Callable[[int], object] = lambda count: None,
) -> tuple[pa.Table, Note, list[Problem]]:
    """Rows of a window with their vectors; of a record with several, a row each.

    Args:
        encoder: What embeds them.
        prepared: The window.
        added: The columns that they get.
        advance: Told how many are done, after every batch.

    Returns:
        Rows of all that have vectors, what is noted of them, and every record that is left out.
    """
    window, count = prepared.window, len(prepared.window.inputs)
    if prepared.chunks is None:
        vectors, failed = encoder.embed(prepared.ids, advance)
        kept = without(count, list(failed))
        places, columns = kept, [_vector_column(vectors[kept], encoder.dimensions)]
    else:
        found, failed = encoder.embed_documents(prepared.ids, prepared.chunks, advance)
        kept = without(count, list(failed))
        documents = [found[place] for place in kept]
        places = np.repeat(kept, [len(one.vectors) for one in documents])
        columns = _group_columns(documents, encoder.dimensions, encoder.dtype)
    problems = [
        *window.problems,
        *(
            Problem(*window.places[place], reason, "not embedded")
            for place, reason in sorted(failed.items())
        ),
    ]
    rows = window.rows
    if len(places) != count or prepared.chunks is not None:
        rows = rows_at(rows, places.tolist())
    for field_added, column in zip(added, columns, strict=True):
        rows = rows.append_column(field_added, column)
    note = Summary(
        len(kept),
        len(places),
        sum(len(prepared.ids[place]) for place in kept),
        prepared.truncated,
        prepared.unknown,
        Counter(problem.kind for problem in problems),
    ).to_note()
    return rows, {**note, "failed": sorted(failed)}, problems


def _vector_column(vectors: np.ndarray, width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)


def _group_columns(documents: Sequence[DocumentVectors], width: int, dtype: str) -> list[pa.Array]:
    """Columns of the vectors of these documents, end to end, in the order of ``OF_GROUPS``."""
    none = np.zeros((0, width), dtype)
    vectors = np.concatenate([none, *(one.vectors.astype(dtype) for one in documents)])
    indices = [place for one in documents for place in range(len(one.vectors))]
    weights = [weight for one in documents for weight in one.weights]
    spans = [spans for one in documents for spans in one.ranges]
    values = (
        indices,
        weights,
        [[start for start, _ in each] for each in spans],
        [[end for _, end in each] for each in spans],
    )
    described = zip(values, OF_GROUPS.values(), strict=True)
    return [_vector_column(vectors, width), *(pa.array(each, kind) for each, kind in described)]


def without(count: int, places: Sequence[int]) -> np.ndarray:
    """Numbers below ``count`` but for ``places``, int64."""
    kept: np.ndarray = np.delete(np.arange(count), list(places))
    return kept


def count_finished(note: Note) -> Summary:
    """The summary that an output was made with."""
    fields: dict[str, Any] = {name: note[name] for name in ("texts", "tokens", "truncated")}
    fields["vectors"] = note.get("vectors", note["texts"])
    unknown = note.get("unknown", 0)
    return Summary(**fields, unknown=unknown, skipped=Counter(note["skipped"]))
