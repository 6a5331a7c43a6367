"""Readers of dictionaries and quotations, and of dictionary entries as pairs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from osa.model.pretrained.corpus.cleaning import sentences, squeeze


def wordnet(root: Path) -> Iterator[str]:
    """Glosses and example sentences of WordNet 3.0."""
    for file in sorted((root / "usr/share/wordnet").glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            gloss = line.split(" | ", 1)[1]
            yield from re.findall(r'"([^"]{12,})"', gloss)
            definition = re.sub(r'"[^"]*"', "", gloss).strip(" ;")
            yield from definition.split("; ")


def gcide(root: Path) -> Iterator[str]:
    """Definitions of the GNU Collaborative International Dictionary of English."""
    for entry in _dictionary(root, "gcide"):
        body = re.sub(r"^\S.*?\n(?=\s|$)", "", entry, count=1, flags=re.S)
        body = re.sub(r"\[[^\]]*\]|\{|\}|\([A-Z][a-z]*\.\)|--[A-Z].*", " ", body)
        for part in re.split(r"\n\s*\n|\s\d+\.\s|\bSyn: ", body):
            yield from sentences(part)


def foldoc(root: Path) -> Iterator[str]:
    """The Free On-line Dictionary of Computing."""
    for entry in _dictionary(root, "foldoc"):
        body = re.sub(r"<[^>]*>|/[^/\n]*/|\{|\}|\([\d-]+\)|\[[^\]]*\]", " ", entry)
        for part in re.split(r"\n\s*\n", body):
            yield from sentences(part)


def fortunes(root: Path) -> Iterator[str]:
    """Quotations and anecdotes."""
    for file in sorted((root / "usr/share/games/fortunes").iterdir()):
        if file.suffix or file.name in ("ascii-art", "translate-me"):
            continue
        for entry in file.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
            yield from sentences(re.sub(r"\n\s*--.*", "", entry, flags=re.S))


def wordnet_pairs(root: Path) -> Iterator[tuple[str, str]]:
    """The words of a WordNet synset, and its gloss."""
    for file in sorted((root / "usr/share/wordnet").glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            fields, gloss = line.split(" | ", 1)
            parts = fields.split(" ")
            words = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
            names = (re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words)
            yield ", ".join(names), squeeze(gloss)


def foldoc_pairs(root: Path) -> Iterator[tuple[str, str]]:
    """A term of computing, and its definition."""
    yield from _entries(root, "foldoc", r"<[^>]*>|\{|\}|\([\d-]+\)|\[[^\]]*\]")


def jargon_pairs(root: Path) -> Iterator[tuple[str, str]]:
    """A word of hackers' slang, and its definition."""
    yield from _entries(root, "jargon", r"\{|\}|//[^/]*//|/[^/\n]{1,40}/")


def jargon(root: Path) -> Iterator[str]:
    """Definitions of the Jargon File."""
    for _, passage in jargon_pairs(root):
        yield from sentences(passage)


def _entries(root: Path, name: str, markup: str) -> Iterator[tuple[str, str]]:
    for entry in _dictionary(root, name):
        head, _, body = entry.partition("\n")
        yield squeeze(head), squeeze(re.sub(markup, " ", body))


def _dictionary(root: Path, name: str) -> list[str]:
    raw = gzip.decompress((root / f"usr/share/dictd/{name}.dict.dz").read_bytes())
    return re.split(r"\n(?=\S)", raw.decode("utf-8", errors="replace"))
