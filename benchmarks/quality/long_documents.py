"""Needle-in-a-haystack task: long documents of one length in chunks, and queries for passages.

A query is the first sentence of a paragraph in the second half of a document. It is removed from
the document, so that a passage is found by its meaning and not by its words.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from osa.model.pretrained.corpus.cleaning import digest, normalized, sentences

CHUNK_TOKENS = 200
FILLED = 0.75
"""Shortest document of a length, as a share of that length."""
_QUERY_WORDS = range(8, 41)
_UNFIT = re.compile(r'["“”]|\b(Mr|Mrs|Dr|St|e\.g|i\.e|cf)\.$')  # speech; sentence cut at a period
_PASSAGE_WORDS, _PASSAGE_SENTENCES = 60, 4

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Page:
    """A held-out page: its source and its paragraphs."""

    source: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Needle:
    """A query, and the indexes of the document and of the chunk that it was taken from."""

    query: str
    document: int
    chunk: int


@dataclass
class Haystack:
    """Documents of one length [tokens], each a list of chunks, and the queries for them."""

    tokens: int
    documents: list[list[str]] = field(default_factory=list)
    needles: list[Needle] = field(default_factory=list)

    @property
    def chunk_documents(self) -> list[int]:
        """Index of the document of every chunk, over the chunks of all documents in order."""
        return [row for row, chunks in enumerate(self.documents) for _ in chunks]

    @property
    def needle_chunks(self) -> list[int]:
        """Index of the chunk of every needle among the chunks of all documents."""
        firsts = [0, *itertools.accumulate(len(chunks) for chunks in self.documents)]
        return [firsts[needle.document] + needle.chunk for needle in self.needles]


def haystack(
    pages: Iterable[Page], tokens: int, count: CountTokens, documents: int, needles: int
) -> Haystack:
    """Documents of up to ``tokens`` tokens, and queries for them.

    Args:
        pages: Held-out pages. Long ones are truncated; short ones of a source are concatenated.
        tokens: Target length.
        count: From texts to their numbers of tokens, without special tokens.
        documents: Largest number of documents.
        needles: Largest number of queries per document. Documents without a query are left out.
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
    """Paragraphs of every page that is long enough, and of short pages concatenated."""
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
    """Indexes of paragraphs in the second half whose first sentence can be a query."""
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
    """Paragraphs, long ones split into sentences; and for each unit its query, mostly empty."""
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
