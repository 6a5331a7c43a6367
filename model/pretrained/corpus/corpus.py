"""The content of the corpus from unpacked packages; nothing is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from osa.model.pretrained.corpus import documents, pairs
from osa.model.pretrained.corpus.catalogue import Catalogue, Pages, Pairs, Texts
from osa.model.pretrained.corpus.cleaning import clean, digest, normalized, sentences
from osa.model.pretrained.corpus.documents import Document
from osa.model.pretrained.corpus.packages import Package
from osa.model.pretrained.corpus.pairs import Pair

HELD_OUT_TEXTS, HELD_OUT_PAIRS = 2000, 5000
MOST_SENTENCES, MOST_DOCUMENTS = 240_000, 1500
"""The first in the order of their digests are kept."""
Roots = Mapping[Package, Path]
Report = Callable[[str], None]


@dataclass
class Corpus:
    """The parts of the corpus, each in the order of its digests.

    Attributes:
        counts: Number of records by file and source.
    """

    train: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    held_out_documents: list[Document] = field(default_factory=list)
    train_pairs: list[Pair] = field(default_factory=list)
    held_out_pairs: list[Pair] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


def compose(
    catalogue: Catalogue,
    roots: Roots,
    excluded: set[str],
    held_out_texts: int = HELD_OUT_TEXTS,
    held_out_pairs: int = HELD_OUT_PAIRS,
    report: Report = lambda line: None,
) -> Corpus:
    """Read every source and separate the held-out data.

    Args:
        catalogue: The sources.
        roots: Directories of their unpacked packages.
        excluded: Normalised texts that are left out everywhere.
        held_out_texts: Number of held-out texts of the dictionaries.
        held_out_pairs: Number of held-out pairs; their texts are left out of the sentences and of
            the training pairs.
        report: Called with a message for every source read and every part completed.
    """
    made = Corpus()
    first, origin = _cleaned(_read(catalogue.dictionaries, roots, report), excluded)
    made.held_out, made.train = first[:held_out_texts], first[held_out_texts:]
    for name, texts in (("train.txt", made.train), ("held_out.txt", made.held_out)):
        made.counts[name] = Counter(origin[normalized(text)] for text in texts)
    report(f"dictionaries: {len(first)} texts")

    found = list(pairs.distinct(_pairs(catalogue.retrieval, roots, report), excluded))
    made.held_out_pairs, rest = pairs.split(found, held_out_pairs)
    withheld = {normalized(text) for item in made.held_out_pairs for text in _texts(item)}
    meanings = pairs.distinct(_pairs(catalogue.meanings, roots, report), excluded | withheld)
    made.train_pairs = pairs.split([*rest, *meanings], 0)[1]
    report(f"pairs: {len(made.train_pairs)} and {len(made.held_out_pairs)} held out")

    names = {item.query for item in made.held_out_pairs}
    pages = _documents(catalogue.documents, roots, excluded, report)
    made.documents = [item for item in pages if item.title not in names][:MOST_DOCUMENTS]
    made.held_out_documents = _documents(catalogue.held_out_documents, roots, excluded, report)
    report(f"documents: {len(made.documents)} and {len(made.held_out_documents)} held out")

    candidates = [
        *_read(catalogue.sentences, roots, report),
        *_openings(item for item in made.train_pairs if item.source not in _names(catalogue)),
        *_prose(item for item in made.documents if item.source in catalogue.prose),
        *_read(catalogue.composed, roots, report),
    ]
    taken = excluded | withheld | {normalized(text) for text in first}
    made.sentences, origin = _cleaned(candidates, taken)
    made.sentences = made.sentences[:MOST_SENTENCES]
    made.counts["sentences.txt"] = Counter(origin[normalized(text)] for text in made.sentences)
    report(f"sentences: {len(made.sentences)} texts")
    for name, records in made_records(made).items():
        made.counts[name] = Counter(record.source for record in records)
    return made


def made_records(made: Corpus) -> dict[str, list[Document] | list[Pair]]:
    """The parts that are written as JSONL, by file."""
    return {
        "documents.jsonl": made.documents,
        "held_out_documents.jsonl": made.held_out_documents,
        "train_pairs.jsonl": made.train_pairs,
        "held_out_pairs.jsonl": made.held_out_pairs,
    }


def _read(sources: Texts, roots: Roots, report: Report) -> list[tuple[str, str]]:
    found = []
    for source in sources:
        report(f"reading {source.name}")
        found += [(source.name, text) for text in source.read(roots[source.package])]
    return found


def _cleaned(
    candidates: Iterable[tuple[str, str]], excluded: set[str]
) -> tuple[list[str], dict[str, str]]:
    """The clean texts, and the first source of each by its normalised form."""
    origin: dict[str, str] = {}
    texts = []
    for name, text in candidates:
        origin.setdefault(normalized(text), name)
        texts.append(text)
    return clean(texts, excluded), origin


def _pairs(sources: Pairs, roots: Roots, report: Report) -> Iterator[tuple[Pair, int]]:
    for source in sources:
        report(f"reading {source.name}")
        for query, passage in source.read(roots[source.package]):
            yield pairs.pair(query, passage, source.name), source.shortest_query


def _documents(sources: Pages, roots: Roots, excluded: set[str], report: Report) -> list[Document]:
    def read() -> Iterator[Document]:
        for source in sources:
            report(f"reading {source.name}")
            for title, paragraphs in source.read(roots[source.package]):
                yield documents.document(title, paragraphs, source.name)

    return sorted(documents.distinct(read(), excluded), key=lambda item: digest(item.text))


def _names(catalogue: Catalogue) -> set[str]:
    """Sources whose pairs add no texts, as their texts are included already."""
    return {source.name for source in (*catalogue.meanings, *catalogue.sentences)}


def _texts(item: Pair) -> list[str]:
    return [item.query, item.passage, *sentences(item.passage)]


def _openings(items: Iterable[Pair]) -> Iterator[tuple[str, str]]:
    """Queries, and the first sentence of every passage."""
    for item in items:
        yield item.source, item.query
        yield item.source, next(sentences(item.passage))


def _prose(items: Iterable[Document]) -> Iterator[tuple[str, str]]:
    for item in items:
        for paragraph in item.text.split("\n"):
            for text in sentences(paragraph):
                yield item.source, text
