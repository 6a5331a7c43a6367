"""Long documents: pages of manuals, articles and novels as prose, one record each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from osa.model.pretrained.corpus.cleaning import digest, normalized, squeeze

MIN_WORDS, MAX_WORDS = 200, 30_000
_SHORTEST_PARAGRAPH = 6
_REPEATS = 3
_COMMON = frozenset({"the", "a", "of", "to", "and", "is", "in", "that", "for", "with", "it"})


@dataclass(frozen=True)
class Document:
    """A page of prose; ``text`` has a line a paragraph."""

    title: str
    text: str
    source: str

    def record(self) -> dict[str, str]:
        """What is written as one line of JSON."""
        return asdict(self)


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph reads as sentences rather than code, a table or a menu."""
    words = paragraph.split()
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return len(words) >= _SHORTEST_PARAGRAPH and letters >= 0.88 * len(paragraph)


def is_english(text: str) -> bool:
    """Whether English's commonest words are as common as they should be."""
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

    A paragraph that occurred in three documents before is boiler plate and is dropped, and so is
    one that is an excluded text. Longer documents are cut into parts of ``MAX_WORDS``.
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
