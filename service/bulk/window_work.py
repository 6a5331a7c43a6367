"""From a window of records to rows with vectors, and what is noted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from osa.model.records.record import Problem
from osa.model.sequences import InputRows
from osa.service.bulk.encoder import BulkEncoder
from osa.service.bulk.run_directory import Note
from osa.service.bulk.windows import Window, rows_at

ARROW_FLOATS = {"float32": pa.float32(), "float16": pa.float16()}


@dataclass
class Summary:
    """What a run has done, parts of an earlier one included.

    Attributes:
        texts: Texts, or sequences of features, embedded.
        tokens: Their tokens, or rows.
        truncated: Of them, those that were cut.
        unknown: Tokens for what the vocabulary does not have.
        skipped: Bad records by kind.
    """

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    unknown: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, note: Note) -> None:
        """Count a part."""
        self.texts += note["texts"]
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
    """

    window: Window
    ids: InputRows
    truncated: int = 0
    unknown: int = 0


def vector_field(name: str, dimensions: int, dtype: str) -> pa.Field:
    """The column of vectors."""
    return pa.field(name, pa.list_(ARROW_FLOATS[dtype], dimensions), nullable=False)


def prepare(encoder: BulkEncoder, window: Window) -> Prepared:
    """Tokenise a window."""
    return Prepared(window, *encoder.prepare(window.inputs))


def embed_window(
    encoder: BulkEncoder,
    prepared: Prepared,
    added: pa.Field,
    advance: Callable[[int], object] = lambda count: None,
) -> tuple[pa.Table, Note, list[Problem]]:
    """Rows of a window with their vectors.

    Args:
        encoder: What embeds them.
        prepared: The window.
        added: The column of vectors.
        advance: Told how many are done, after every batch.

    Returns:
        Rows of all that have vectors, what is noted of them, and every record that is left out.
    """
    window = prepared.window
    vectors, failed = encoder.embed(prepared.ids, advance)
    problems = [
        *window.problems,
        *(
            Problem(*window.places[place], reason, "not embedded")
            for place, reason in sorted(failed.items())
        ),
    ]
    kept = without(len(window.inputs), list(failed))
    chosen = rows_at(window.rows, kept.tolist()) if failed else window.rows
    flat = pa.array(vectors[kept].ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, encoder.dimensions)
    note = Summary(
        len(kept),
        sum(len(prepared.ids[place]) for place in kept),
        prepared.truncated,
        prepared.unknown,
        Counter(problem.kind for problem in problems),
    ).to_note()
    return chosen.append_column(added, column), {**note, "failed": sorted(failed)}, problems


def without(count: int, places: Sequence[int]) -> np.ndarray:
    """Numbers below ``count`` but for ``places``, int64."""
    kept: np.ndarray = np.delete(np.arange(count), list(places))
    return kept


def count_finished(note: Note) -> Summary:
    """The summary that an output was made with."""
    fields: dict[str, Any] = {name: note[name] for name in ("texts", "tokens", "truncated")}
    unknown = note.get("unknown", 0)
    return Summary(**fields, unknown=unknown, skipped=Counter(note["skipped"]))
