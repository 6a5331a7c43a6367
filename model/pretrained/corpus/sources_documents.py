"""Readers of whole pages: manuals, articles, novels and package descriptions."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from osa.model.pretrained.corpus import markup
from osa.model.pretrained.corpus.cleaning import squeeze

Page = tuple[str, list[str]]
_WIKI_NOISE = (
    (r"<!--.*?-->|<ref[^>/]*/>|<ref.*?</ref>|<math.*?</math>|<gallery.*?</gallery>", " "),
    (r"\{\|.*?\|\}", " "),
    (r"\[\[(?:File|Image|Category)[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]", " "),
    (r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1"),
    (r"\[https?:\S*\s*([^\]]*)\]", r"\1"),
    (r"<[^>]*>|'{2,}", ""),
)


def manual(
    folder: str, pattern: str = "*.html", skip: str = r"$^"
) -> Callable[[Path], Iterator[Page]]:
    """A reader of the HTML pages below ``folder`` whose path does not match ``skip``."""

    def read(root: Path) -> Iterator[Page]:
        for file in sorted((root / folder).rglob(pattern)):
            if file.is_file() and not re.search(skip, file.relative_to(root).as_posix()):
                raw = file.read_bytes()
                raw = gzip.decompress(raw) if file.suffix == ".gz" else raw
                yield markup.html(raw.decode("utf-8", errors="replace"))

    return read


def perl(root: Path) -> Iterator[Page]:
    """Perl's manual."""
    for file in sorted((root / "usr/share/perl").rglob("*.pod")):
        yield markup.pod(file.read_text(encoding="utf-8", errors="replace"))


def novels(root: Path) -> Iterator[Page]:
    """Jane Austen's six novels, one page each."""
    file = next(root.glob("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"))
    for lines in markup.r_strings(file):
        if len(lines) < 1000:
            continue
        paragraphs = markup.plain("\n".join(lines))
        yield " ".join(paragraphs[:1]).title(), paragraphs


def wikipedia(root: Path) -> Iterator[Page]:
    """Articles of a shortened dump of the English Wikipedia."""
    file = next(root.glob("gensim-*/gensim/test/test_data/enwiki-latest-pages-articles1*.bz2"))
    dump = bz2.decompress(file.read_bytes()).decode("utf-8")
    for page in re.findall(r"<page>.*?</page>", dump, flags=re.S):
        title = re.search(r"<title>(.*?)</title>", page)
        text = re.search(r"<text[^>]*>(.*?)</text>", page, flags=re.S)
        if title and text and not text.group(1).upper().startswith("#REDIRECT"):
            yield title.group(1), list(_wiki_paragraphs(text.group(1)))


def descriptions(indices: Path) -> Iterator[tuple[str, str]]:
    """Short and long description of Debian's packages."""
    files = sorted(indices.glob("*Translation-en"), key=lambda file: file.name.split("_dists_")[-1])
    for file in files:
        for stanza in file.read_text(encoding="utf-8").split("\n\n"):
            match = re.search(r"^Description-en: (.*)\n((?: .*\n?)+)", stanza, flags=re.M)
            if match:
                body = re.sub(r"^ \.$", "", match.group(2), flags=re.M)
                yield squeeze(match.group(1)), squeeze(re.sub(r"^ ", "", body, flags=re.M))


def _wiki_paragraphs(text: str) -> Iterator[str]:
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
    text = text.replace("&amp;", "&").replace("&nbsp;", " ")
    previous = ""
    while previous != text:
        previous, text = text, re.sub(r"\{\{[^{}]*\}\}", " ", text)
    for pattern, replacement in _WIKI_NOISE:
        text = re.sub(pattern, replacement, text, flags=re.S)
    for line in text.splitlines():
        if line[:1] not in ("=", "|", "!", "{", "}", ":", ""):
            text = squeeze(line.lstrip("*#; "))
            if text:
                yield text
