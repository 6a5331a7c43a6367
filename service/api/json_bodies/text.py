"""JSON bodies as text: which bytes are read, and what is said of others."""

from __future__ import annotations

import codecs
from typing import Any

import orjson

from osa.service.api.json_bodies.pieces import load_in_pieces
from osa.service.errors import MalformedBodyError

WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def load_json(raw: bytes) -> Any:
    """The value of a JSON body in UTF-8; a byte order mark before it is passed over.

    Raises:
        MalformedBodyError: Not JSON; also NaN, Infinity, 1e400, lone surrogates, deep nesting. It
            says where, and which byte is not UTF-8.
    """
    try:
        return load_in_pieces(raw.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        problem = _encoding_problem(raw) or place
        raise MalformedBodyError(f"the body is not valid JSON: {problem}") from None


def _encoding_problem(raw: bytes) -> str | None:
    """Why the bytes are no UTF-8, or None."""
    for mark, name in WIDE_MARKS:
        if raw.startswith(mark):
            return f"it is in {name}, not in UTF-8"
    if len(raw) >= 4 and 0 in raw[:2]:  # JSON begins with an ASCII character
        return f"it is in {'UTF-32' if raw[:4].count(0) == 3 else 'UTF-16'}, not in UTF-8"
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}"
    return None
