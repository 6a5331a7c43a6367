"""Large JSON bodies in pieces, so that no other thread waits long for the interpreter.

A parser holds the interpreter until it is done: 25 ms for two megabytes of small lists. Here the
longest array of a body is found by numpy, which does not hold it, and is parsed some elements at a
time. What is not well-formed is left to the parser, whose error says where.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import numpy as np
import orjson

PIECE = 65_536
"""About so much is parsed at once [bytes]."""
LEAST_VALUES = 20_000
"""Bodies with fewer commas are parsed quickly enough."""
MOST_DEPTH = 5
"""Arrays within so many others are looked at."""


class _Array(NamedTuple):
    """Places of an array's brackets, and of the commas between its elements."""

    start: int
    stop: int
    commas: np.ndarray


def load_in_pieces(raw: bytes) -> Any:
    """The value of a JSON text, as ``orjson.loads`` gives it.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
    """
    if len(raw) <= 4 * PIECE or raw.count(b",") < LEAST_VALUES:
        return orjson.loads(raw)
    array = _long_array(raw)
    if array is None:
        return orjson.loads(raw)
    mark = [secrets.token_urlsafe()]  # a list: it cannot be the name of a field
    try:
        outside = orjson.loads(raw[: array.start] + orjson.dumps(mark) + raw[array.stop + 1 :])
        elements = _elements(raw, array)
    except (orjson.JSONDecodeError, ValueError):  # the first is one of the second
        return orjson.loads(raw)
    return _put_in(outside, mark, elements)


def _long_array(raw: bytes) -> _Array | None:
    """The outermost array whose elements are short, and which is all but a piece of the text."""
    plain = raw
    if b"\\" in raw:
        plain = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    text = np.frombuffer(plain, np.uint8)
    outside = ~np.logical_xor.accumulate(text == ord('"'))
    opens = ((text == ord("[")) | (text == ord("{"))) & outside
    closes = ((text == ord("]")) | (text == ord("}"))) & outside
    depth = np.cumsum(opens.view(np.int8) - closes.view(np.int8), dtype=np.int32)
    commas = (text == ord(",")) & outside
    for level in range(1, MOST_DEPTH + 1):
        starts = np.flatnonzero(opens & (depth == level))
        stops = np.flatnonzero(closes & (depth == level - 1))
        if not len(starts) or len(starts) != len(stops):
            return None
        longest = int(np.argmax(stops - starts))
        start, stop = int(starts[longest]), int(stops[longest])
        if stop - start < len(raw) - PIECE:
            return None
        if text[start] != ord("[") or text[stop] != ord("]"):
            continue
        between = start + np.flatnonzero((commas & (depth == level))[start:stop])
        gaps = np.diff(between, prepend=start, append=stop)
        if int(gaps.max()) <= PIECE:
            return _Array(start, stop, between)
    return None


def _elements(raw: bytes, array: _Array) -> list[Any]:
    """The elements of an array.

    Raises:
        ValueError: It is not well-formed.
    """
    wanted = np.arange(array.start + PIECE, array.stop, PIECE)
    places = np.unique(array.commas[np.searchsorted(array.commas, wanted) - 1])
    found: list[Any] = []
    start = array.start + 1
    for stop in [*(int(place) for place in places if place > array.start), array.stop]:
        elements = orjson.loads(b"[%b]" % raw[start:stop])
        if not elements:
            raise ValueError("a comma with nothing beside it")
        found += elements
        start = stop + 1
    return found


def _put_in(value: Any, mark: list[str], elements: list[Any]) -> Any:
    """``value``, however deeply nested, with ``elements`` where ``mark`` is."""
    if value == mark:
        return elements
    waiting = [value]
    while waiting:
        container = waiting.pop()
        parts = container.items() if isinstance(container, dict) else enumerate(container)
        for place, part in parts:
            if part == mark:
                container[place] = elements
                return value
            if isinstance(part, dict | list):
                waiting.append(part)
    return value  # another field of the same name took its place
