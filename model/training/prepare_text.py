"""Prepare training text from packages that any Debian-based machine can install.

    python -m osa.model.training.prepare_text --output data/text

Downloads (``apt-get download``, no root, nothing installed) and unpacks dictionaries and
quotations, and writes ``train.txt`` and ``held_out.txt``: one text a line, without repeats, in
an order that depends on the texts alone. ``--exclude`` drops texts that occur in given files, so
that no evaluation sentence is trained on. ``--packages`` reads .deb files from a directory
instead of downloading.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_WORDS, MAX_WORDS = 3, 80
HELD_OUT = 2000
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[A-Za-z]{2,}")


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
            yield from _sentences(part)


def foldoc(root: Path) -> Iterator[str]:
    """The Free On-line Dictionary of Computing."""
    for entry in _dictionary(root, "foldoc"):
        body = re.sub(r"<[^>]*>|/[^/\n]*/|\{|\}|\([\d-]+\)|\[[^\]]*\]", " ", entry)
        for part in re.split(r"\n\s*\n", body):
            yield from _sentences(part)


def fortunes(root: Path) -> Iterator[str]:
    """Quotations and anecdotes."""
    for file in sorted((root / "usr/share/games/fortunes").iterdir()):
        if file.suffix or file.name in ("ascii-art", "translate-me"):
            continue
        for entry in file.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
            yield from _sentences(re.sub(r"\n\s*--.*", "", entry, flags=re.S))


@dataclass(frozen=True)
class Source:
    """A Debian package and how to read its texts."""

    package: str
    read: Callable[[Path], Iterator[str]]


SOURCES = (
    Source("wordnet-base", wordnet),
    Source("dict-gcide", gcide),
    Source("dict-foldoc", foldoc),
    Source("fortunes", fortunes),
)


def _dictionary(root: Path, name: str) -> list[str]:
    raw = gzip.decompress((root / f"usr/share/dictd/{name}.dict.dz").read_bytes())
    return re.split(r"\n(?=\S)", raw.decode("utf-8", errors="replace"))


def _sentences(text: str) -> Iterator[str]:
    yield from re.split(r"(?<=[.!?])\s+(?=[A-Z\"'])", _SPACE.sub(" ", text).strip())


def is_text(candidate: str) -> bool:
    """Whether a line reads as a phrase or sentence: enough words, mostly letters."""
    words = candidate.split()
    letters = sum(character.isalpha() or character == " " for character in candidate)
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and letters >= 0.85 * len(candidate)
        and len(_WORD.findall(candidate)) >= MIN_WORDS
    )


def normalized(text: str) -> str:
    """Letters and digits in lower case: what makes two texts the same."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def clean(texts: Iterable[str], excluded: set[str]) -> list[str]:
    """Distinct, readable texts that are not excluded, ordered by their digest."""
    kept: dict[str, str] = {}
    for text in texts:
        line = _SPACE.sub(" ", text).strip(" ;:,")
        identity = normalized(line)
        if is_text(line) and identity not in excluded:
            kept.setdefault(identity, line)
    return sorted(kept.values(), key=lambda line: hashlib.sha256(line.encode()).digest())


def unpack(package: str, packages: Path | None, target: Path) -> None:
    """Unpack a .deb below ``target``, downloading it where no directory holds it."""
    if packages is None:
        subprocess.run(["apt-get", "download", package], cwd=target, check=True)
        packages = target
    files = sorted(packages.glob(f"{package}_*.deb"))
    if not files:
        raise FileNotFoundError(f"{packages} holds no {package}_*.deb")
    subprocess.run(["dpkg", "-x", str(files[-1]), str(target)], check=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the preparation; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="prepare_text", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="directory to write to")
    parser.add_argument("--packages", type=Path, help="directory of .deb files; no download")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="tab-separated files")
    options = parser.parse_args(arguments)
    excluded = {
        normalized(cell)
        for file in options.exclude
        for line in file.read_text(encoding="utf-8").splitlines()
        for cell in line.split("\t")
    }
    texts: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            unpack(source.package, options.packages, Path(scratch))
            found = list(source.read(Path(scratch)))
            texts += found
            print(f"{source.package}: {len(found)} candidates", file=sys.stderr)
    lines = clean(texts, excluded)
    held_out, train = lines[:HELD_OUT], lines[HELD_OUT:]
    options.output.mkdir(parents=True, exist_ok=True)
    for name, part in (("train.txt", train), ("held_out.txt", held_out)):
        (options.output / name).write_text("\n".join(part) + "\n", encoding="utf-8")
        print(f"{name}: {len(part)} texts", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
