"""Rules for texts: which are kept, which are equal, and in which order they are written."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Iterator

from osa.model.common.sentences import sentence_ends

MIN_WORDS, MAX_WORDS = 3, 80
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_OPENINGS = frozenset(string.ascii_uppercase + "\"'")


def squeeze(text: str) -> str:
    """The text on one line, with single spaces."""
    return _SPACE.sub(" ", text).strip()


def sentences(text: str) -> Iterator[str]:
    """Split a paragraph at sentence ends that a capital or a quotation mark follows.

    A full stop before a small letter mostly ends an abbreviation in dictionaries. Texts of the
    packaged model were split by an older rule, which knew no closing quotation marks or brackets.
    """
    text = squeeze(text)
    start = 0
    for end in sentence_ends(text):
        if text[end : end + 1] in _OPENINGS:
            yield text[start:end].rstrip()
            start = end
    yield text[start:]


def is_text(candidate: str) -> bool:
    """Whether a line is a phrase or sentence: enough words, mostly letters."""
    words = candidate.split()
    letters = sum(character.isalpha() or character == " " for character in candidate)
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and letters >= 0.85 * len(candidate)
        and len(_WORD.findall(candidate)) >= MIN_WORDS
    )


def normalized(text: str) -> str:
    """Letters and digits in lower case; texts are equal if their normalised forms are."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def digest(text: str) -> bytes:
    """Key by which texts are ordered, independent of their source."""
    return hashlib.sha256(text.encode()).digest()


def clean(texts: Iterable[str], excluded: set[str]) -> list[str]:
    """Distinct, readable texts that are not excluded, ordered by their digest."""
    kept: dict[str, str] = {}
    for text in texts:
        line = _SPACE.sub(" ", text).strip(" ;:,")
        identity = normalized(line)
        if is_text(line) and identity not in excluded:
            kept.setdefault(identity, line)
    return sorted(kept.values(), key=digest)
