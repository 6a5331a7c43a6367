"""Prose of HTML, Mallard pages, POD and R's data files, without code and navigation."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from osa.model.pretrained.corpus.cleaning import squeeze

_BLOCKS = frozenset(
    {"p", "li", "dd", "dt", "blockquote", "h1", "h2", "h3", "h4", "title"}
    | {"td", "tr", "table", "ul", "ol", "dl", "div", "section", "form"}
)
_SKIPPED = frozenset(
    {"pre", "script", "style", "nav", "header", "footer", "code-block", "screen", "aside", "desc"}
)
_KEPT = frozenset({"p", "li", "dd", "blockquote"})
_NAVIGATION = re.compile(r"(Previous|Next|Prev|Up):\s")
_POD_CODE = re.compile(r"[A-Z]<(?:<+\s)?([^<>]*)(?:\s>+)?>")


class _Prose(HTMLParser):
    """Collects the text of paragraphs, list items and definitions, and the first heading."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.paragraphs: list[str] = []
        self._skipped = 0
        self._block = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in _SKIPPED or (tag == "div" and names.get("role") == "navigation"):
            self._skipped += tag in _SKIPPED
        elif tag in _BLOCKS:
            self._flush(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skipped = max(0, self._skipped - 1)
        elif tag in _BLOCKS:
            self._flush("")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def _flush(self, following: str) -> None:
        text = squeeze("".join(self._text)).replace("¶", "").strip()
        if text and self._block in _KEPT and not _NAVIGATION.match(text):
            self.paragraphs.append(text)
        elif self._block in ("h1", "title") and text and not self.title:
            self.title = text
        self._block, self._text = following, []


def html(text: str) -> tuple[str, list[str]]:
    """Title and paragraphs of an HTML or Mallard page."""
    parser = _Prose()
    parser.feed(text)
    parser.close()
    return parser.title, parser.paragraphs


def pod(text: str) -> tuple[str, list[str]]:
    """Title and paragraphs of Perl's plain old documentation."""
    for _ in range(3):
        text = _POD_CODE.sub(lambda match: match.group(1).split("|")[0], text)
    blocks = re.split(r"\n\s*\n", text)
    prose = [squeeze(block) for block in blocks if block[:1] not in ("=", " ", "\t", "\n")]
    name = re.search(r"=head1 NAME\s+(.+)", text)
    return (squeeze(name.group(1)).split(" - ")[-1] if name else ""), prose


def r_strings(file: Path) -> Iterator[list[str]]:
    """The character vectors of an R lazy-load database (``.rdb``), one list per stored object."""
    data, position = file.read_bytes(), 0
    while position < len(data) - 6:
        unpacker = zlib.decompressobj()
        block = unpacker.decompress(data[position + 4 :])
        position = len(data) - len(unpacker.unused_data)
        yield list(_character_data(block))


def _character_data(block: bytes) -> Iterator[str]:
    """Strings in R's XDR serialisation: 9 in the type byte, a length, then the bytes."""
    for match in re.finditer(rb"\x00[\x00-\x04][\x00-\xff]\x09(?=\x00\x00)", block):
        start = match.end()
        size = int.from_bytes(block[start : start + 4], "big")
        yield block[start + 4 : start + 4 + size].decode("utf-8", errors="replace")


def plain(text: str) -> list[str]:
    """Paragraphs of plain text, split at blank lines."""
    return [squeeze(part) for part in re.split(r"\n\s*\n", text) if part.strip()]
