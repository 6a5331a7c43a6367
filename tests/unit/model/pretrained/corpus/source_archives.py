"""Small sources for the tests of the corpus command."""

from __future__ import annotations

import tarfile
from pathlib import Path

PROSE = "This is the prose of a page and it says that the sky is blue in the morning. "
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write(root: Path, name: str, content: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def long_page(mark: str) -> list[str]:
    return [f"{PROSE} Part {mark} {LETTERS[i]}." for i in range(20)]


def source_archive(folder: Path, name: str, files: dict[str, str]) -> None:
    tree = folder / "tree" / name
    for path, content in files.items():
        write(tree, path, content)
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(tree, name)
