"""Long documents: the prose of a page of a manual, an article or a novel, one record each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from osa.model.pretrained.corpus.cleaning import digest, normalized, squeeze

MIN_WORDS, MAX_WORDS = 200, 30_000
_SHORTEST_PARAGRAPH = 6
_REPEATS = 3
_COMMON = frozenset({"the", "a", "of", "to", "and", "is", "in", "that", "for", "with", "it"})


@dataclass(frozen=True)
class Document:
    """A page of prose; ``text`` has one paragraph per line."""

    title: str
    text: str
    source: str


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph consists of sentences rather than code, a table or a menu."""
    words = paragraph.split()
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return len(words) >= _SHORTEST_PARAGRAPH and letters >= 0.88 * len(paragraph)


def is_english(text: str) -> bool:
    """Whether the commonest English words are as frequent as in English text."""
    words = text.lower().split()
    return sum(word in _COMMON for word in words) >= 0.12 * len(words)


def document(title: str, paragraphs: Iterable[str], source: str) -> Document:
    """A document of the paragraphs that are prose."""
    kept = [squeeze(paragraph) for paragraph in paragraphs]
    text = "\n".join(paragraph for paragraph in kept if is_prose(paragraph))
    name = re.split(r" [—|] | - (?=The |Apache |Rust )", squeeze(title))[0]
    name = re.sub(r" \((?:Maxima|GNU Octave|Octave)[^()]*(?:\([^()]*\))?[^()]*\)$", "", name)
    return Document(re.sub(r"^(?:[A-Z]?[\d.]+)\s+", "", name), text, source)


def distinct(documents: Iterable[Document], excluded: set[str]) -> Iterator[Document]:
    """Documents of an allowed length, without repeats.

    A paragraph that occurred three times before counts as boilerplate and is dropped, like
    excluded texts. Longer documents are cut into parts of ``MAX_WORDS``.
    """
    seen: set[bytes] = set()
    counts: dict[bytes, int] = {}
    for item in documents:
        kept: list[str] = []
        for paragraph in item.text.split("\n"):
            key = digest(normalized(paragraph))[:12]
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= _REPEATS and normalized(paragraph) not in excluded:
                kept.append(paragraph)
        for text in _parts(kept):
            key = digest(normalized(text[:2000]))
            if is_english(text) and len(text.split()) >= MIN_WORDS and key not in seen:
                seen.add(key)
                yield Document(item.title, text, item.source)


def _parts(paragraphs: list[str]) -> Iterator[str]:
    part: list[str] = []
    words = 0
    for paragraph in paragraphs:
        size = len(paragraph.split())
        if words + size > MAX_WORDS:
            yield "\n".join(part)
            part, words = [], 0
        part.append(paragraph)
        words += size
    yield "\n".join(part)
