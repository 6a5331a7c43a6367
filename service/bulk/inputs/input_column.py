"""The column that is embedded: texts, or sequences of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from osa.model.records.fields import Field, check, display
from osa.model.records.record import BadRecord

InputKind = Literal["text", "features"]


@dataclass(frozen=True)
class InputColumn:
    """The column that is embedded.

    Attributes:
        name: Its name.
        kind: What it holds.
    """

    name: str
    kind: InputKind = "text"

    @property
    def field(self) -> Field:
        """The same as a field of a record."""
        return Field(self.kind, self.name, self.kind)

    def check(self, value: Any) -> str | np.ndarray:
        """A text or features, float32 [n, F], that the server would take.

        Raises:
            BadRecord: Null, empty, with NUL, or another type; features ragged or not finite.
        """
        if self.kind == "features":
            features: np.ndarray = check(self.field, value)
            return features
        if value is None or value == "":
            found = "null" if value is None else "empty"
            raise BadRecord("empty text", f"column {self.name!r} is {found}")
        if not isinstance(value, str):
            raise BadRecord(
                "wrong type", f"column {self.name!r} must be a string, got {display(value)}"
            )
        if "\0" in value:
            raise BadRecord("binary", f"column {self.name!r} holds NUL: binary content, not text")
        return value


def size_of(value: str | np.ndarray) -> int:
    """Characters of a text, or numbers of features."""
    return len(value) if isinstance(value, str) else value.size
