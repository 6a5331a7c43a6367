"""Fields of an example, and the check of a value against its field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from osa.model.errors import ConfigError
from osa.model.records.record import BadRecord

FieldKind = Literal["text", "label", "relevance", "features"]
INT64 = range(-(2**63), 2**63)
SHOWN = 40
"""Most characters of a value in a message."""
MAX_NAMES = 20
"""Most columns in a message."""


@dataclass(frozen=True)
class Field:
    """A field of an example.

    Attributes:
        name: Name for the objective.
        column: Name of its column in the files.
        kind: ``text``, a string that is not empty; ``label``, a string or a 64-bit integer, the
            same type in all examples; ``relevance``, a number from 0 to 1; ``features``, a list of
            N rows of F finite numbers, the same F in all examples.
        optional: Whether it may be missing or null.
    """

    name: str
    column: str
    kind: FieldKind
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse an invalid name or kind."""
        if self.kind not in get_args(FieldKind):
            allowed = ", ".join(get_args(FieldKind))
            raise ConfigError(f"field {self.name!r}: kind must be {allowed}, got {self.kind!r}")
        if not self.name or self.name.startswith("_"):
            raise ConfigError(f"a field cannot be named {self.name!r}")


def check(field: Field, value: Any) -> Any:
    """Convert a value to the type of its field.

    Args:
        field: The field.
        value: The value read from a file; bytes are decoded as UTF-8.

    Returns:
        Text without surrounding white space; a label unchanged; a relevance as float; features as
        float32 [N, F]; None for null in an optional field.

    Raises:
        BadRecord: The value is invalid for the field.
    """
    if isinstance(value, bytes):
        value = decode(value, field.column)
    if value is None:
        if field.optional:
            return None
        raise BadRecord("missing", f"column {field.column!r} is null")
    if field.kind == "text":
        return _text(field.column, value)
    if field.kind == "label":
        return _label(field.column, value)
    if field.kind == "relevance":
        return _relevance(field.column, value)
    return _features(field.column, value)


def decode(raw: bytes, column: str | None = None) -> str:
    """Decode UTF-8 without NUL, the content of a line or of ``column`` of a row.

    Raises:
        BadRecord: A byte is invalid; the message numbers it from 1.
    """
    place = "" if column is None else f" of column {column!r}"
    if (position := raw.find(0)) >= 0:
        raise BadRecord("binary", f"byte {position + 1}{place} is NUL: binary content, not text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1}{place} (0x{raw[error.start]:02x})"
        raise BadRecord("not UTF-8", f"{byte} is not UTF-8, which is expected") from None


def display(value: Any) -> str:
    """A JSON value for a message: its type, and the value itself if it is a number or a string."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return f"the number {_shorten(str(value))}"
    if isinstance(value, str):
        return f"the string {_shorten(repr(value))}"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return f"a value of type {type(value).__name__}"


def list_names(names: Iterable[object]) -> str:
    """Quoted column names for a message, ``MAX_NAMES`` at most."""
    quoted = [_shorten(repr(name)) for name in names]
    more = f" and {len(quoted) - MAX_NAMES} more" if len(quoted) > MAX_NAMES else ""
    return (", ".join(quoted[:MAX_NAMES]) or "none") + more


def _text(column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRecord("wrong type", f"column {column!r} must be a string, got {display(value)}")
    return _storable(column, value)


def _label(column: str, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadRecord(
            "wrong type",
            f"column {column!r} must be a string or an integer, got {display(value)}",
        )
    if isinstance(value, int):
        if value not in INT64:
            raise BadRecord("wrong type", f"column {column!r} must fit 64 bits, which it does not")
        return value
    return _storable(column, value)


def _relevance(column: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        kind = "out of range" if is_number else "wrong type"
        reason = f"column {column!r} must be a number from 0 to 1, got {display(value)}"
        raise BadRecord(kind, reason)
    return float(value)


def _features(column: str, value: Any) -> np.ndarray:
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        found = display(value) if not isinstance(value, list) else "a list of other things"
        raise BadRecord("wrong type", f"column {column!r} must be a list of rows, got {found}")
    if not value or not value[0]:
        raise BadRecord("empty features", f"column {column!r} holds no number")
    width = len(value[0])
    for number, row in enumerate(value, start=1):
        if len(row) != width:
            raise BadRecord(
                "ragged features",
                f"column {column!r} is ragged: row {number} has {len(row)} numbers, "
                f"row 1 has {width}",
            )
    if not {type(item) for row in value for item in row} <= {int, float}:
        found = next(display(x) for row in value for x in row if type(x) not in (int, float))
        raise BadRecord("wrong type", f"column {column!r} must hold numbers, got {found}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise BadRecord("not finite", f"column {column!r} holds a number beyond float32") from None
    if not np.isfinite(array).all():
        row, place = np.argwhere(~np.isfinite(array))[0]
        raise BadRecord(
            "not finite",
            f"column {column!r} must hold finite float32, got {value[row][place]} "
            f"in row {row + 1}, place {place + 1}",
        )
    return array


def _storable(column: str, text: str) -> str:
    if "\0" in text:
        raise BadRecord("binary", f"column {column!r} holds NUL: binary content, not text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        reason = f"column {column!r} holds a lone surrogate, which is not valid Unicode"
        raise BadRecord("not UTF-8", reason) from None
    if not (text := text.strip()):
        raise BadRecord("empty text", f"column {column!r} is empty")
    return text


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
