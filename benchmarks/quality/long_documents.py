"""Long documents of one length, in chunks, and sentences taken out of them to look them up by.

A query is the first sentence of a paragraph in the second half of a document; it is removed from
there, so what finds the passage is its sense, not its words.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from osa.model.pretrained.corpus.cleaning import digest, normalized, sentences

CHUNK_TOKENS = 200
FILLED = 0.75
"""A document counts for a length if it is at least this much of it."""
_QUERY_WORDS = range(8, 41)
_UNFIT = re.compile(r'["“”]|\b(Mr|Mrs|Dr|St|e\.g|i\.e|cf)\.$')  # speech, and half a sentence
_PASSAGE_WORDS, _PASSAGE_SENTENCES = 60, 4

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Page:
    """A held-out document as it was read: its source and its paragraphs."""

    source: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Needle:
    """A query, and the place of the passage that it was taken from."""

    query: str
    document: int
    chunk: int


@dataclass
class Haystack:
    """Documents of one length [tokens], each a list of chunks, and what is looked for in them."""

    tokens: int
    documents: list[list[str]] = field(default_factory=list)
    needles: list[Needle] = field(default_factory=list)

    @property
    def owners(self) -> list[int]:
        """The document of every chunk, chunks of all documents in a row."""
        return [row for row, chunks in enumerate(self.documents) for _ in chunks]

    @property
    def places(self) -> list[int]:
        """Where in that row the chunk of every needle is."""
        firsts = [0, *itertools.accumulate(len(chunks) for chunks in self.documents)]
        return [firsts[needle.document] + needle.chunk for needle in self.needles]


def haystack(
    pages: Iterable[Page], tokens: int, count: CountTokens, documents: int, needles: int
) -> Haystack:
    """Documents of up to ``tokens`` tokens, and queries for them.

    Args:
        pages: Held-out documents. Long ones are cut; short ones of a source are laid end to end.
        tokens: The length aimed at.
        count: Tokens of texts, without special ones.
        documents: The most documents.
        needles: The most queries a document. Documents that give none are left out.
    """
    made = Haystack(tokens)
    texts = sorted(_filled(pages, tokens, count), key=lambda text: digest("\n".join(text)))
    for paragraphs in texts:
        chosen = set(_passages(paragraphs, needles))
        if not chosen:
            continue
        chunks: list[str] = []
        units, marks = _units(paragraphs, chosen, count)
        sizes = count(units)
        room = 0
        for unit, mark, size in zip(units, marks, sizes, strict=True):
            if size > room:
                chunks.append(unit)
                room = CHUNK_TOKENS - size
            else:
                chunks[-1] += " " + unit
                room -= size
            if mark:
                made.needles.append(Needle(mark, len(made.documents), len(chunks) - 1))
        made.documents.append(chunks)
        if len(made.documents) == documents:
            break
    return made


def _filled(pages: Iterable[Page], tokens: int, count: CountTokens) -> list[list[str]]:
    """Paragraphs of every document that is long enough, and of short ones laid end to end."""
    found: list[list[str]] = []
    joined: dict[str, tuple[list[str], int]] = {}
    for page in pages:
        lengths = count(page.paragraphs)
        text, size = (
            ([], 0) if sum(lengths) >= FILLED * tokens else joined.pop(page.source, ([], 0))
        )
        for paragraph, length in zip(page.paragraphs, lengths, strict=True):
            if size + length > tokens:
                break
            text.append(paragraph)
            size += length
        if size >= FILLED * tokens:
            found.append(text)
        elif sum(lengths) < FILLED * tokens:
            joined[page.source] = (text, size)
    return found


def _passages(paragraphs: Sequence[str], most: int) -> list[int]:
    """Paragraphs of the second half that a first sentence can be taken from."""
    words = list(itertools.accumulate(len(paragraph.split()) for paragraph in paragraphs))
    everything = normalized(" ".join(paragraphs))
    found = []
    for row, paragraph in enumerate(paragraphs):
        parts = list(sentences(paragraph))
        if (
            (words[row - 1] if row else 0) >= words[-1] / 2
            and len(paragraph.split()) >= _PASSAGE_WORDS
            and len(parts) >= _PASSAGE_SENTENCES
            and len(parts[0].split()) in _QUERY_WORDS
            and not _UNFIT.search(parts[0])
            and everything.count(normalized(parts[0])) == 1
        ):
            found.append(row)
    return sorted(found, key=lambda row: digest(paragraphs[row]))[:most]


def _units(
    paragraphs: Sequence[str], chosen: set[int], count: CountTokens
) -> tuple[list[str], list[str]]:
    """Paragraphs, long ones in sentences; beside the first of a passage its query."""
    units, marks = [], []
    lengths = count(paragraphs)
    for row, paragraph in enumerate(paragraphs):
        parts, query = [paragraph], ""
        if row in chosen or lengths[row] > CHUNK_TOKENS:
            parts = list(sentences(paragraph))
        if row in chosen:
            query, parts = parts[0], parts[1:]
            if lengths[row] <= CHUNK_TOKENS:
                parts = [" ".join(parts)]
        units += parts
        marks += [query, *[""] * (len(parts) - 1)]
    return units, marks
