"""Text from files and servers, made fit for a terminal."""

from __future__ import annotations

import unicodedata


def harmless(text: str, lines: bool = False) -> str:
    r"""The same text with everything that a terminal might obey, or not show, as an escape.

    That is control characters (``\x1b``, ``\x9b``), marks of direction (``\u202e``), characters
    without width, lone surrogates and what has no meaning.

    Args:
        text: Any text.
        lines: Whether line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or (lines and one == "\n") else _escape(one) for one in text
    )


def clip(text: str, width: int) -> str:
    """The beginning of a text that fits ``width`` columns."""
    taken = 0
    for place, one in enumerate(text):
        taken += _width(one)
        if taken > width:
            return text[:place]
    return text


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _width(one: str) -> int:
    if unicodedata.combining(one):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1
