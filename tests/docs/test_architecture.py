"""Rules of the source tree: small folders, short files, and a map with every module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.commands import ROOT

CODE = ("service", "model", "export", "benchmarks", "docker", "helm", "tests")
MAPPED = ("service", "model", "export", "benchmarks")
MOST_MODULES = 13
MOST_LINES = 300
LINED = {".py", ".h", ".cpp", ".cu", ".js", ".css", ".html", ".sh"}


def folders(*tops: str) -> Iterator[Path]:
    """Folders with Python modules, below these."""
    for top in tops:
        for folder in (ROOT / top, *(ROOT / top).rglob("*/")):
            if folder.is_dir() and modules_of(folder):
                yield folder.relative_to(ROOT)


def modules_of(folder: Path) -> set[str]:
    """Modules of a folder of sources, by name."""
    return {
        file.stem
        for file in folder.glob("*.py")
        if file.name != "__init__.py" and not file.name.startswith("_native")
    }


@pytest.mark.parametrize("folder", list(folders(*CODE[:-1])), ids=str)
def test_no_folder_has_more_than_thirteen_modules(folder: Path) -> None:
    assert len(modules_of(ROOT / folder)) <= MOST_MODULES


@pytest.mark.parametrize("top", CODE)
def test_no_file_has_more_than_three_hundred_lines(top: str) -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in (ROOT / top).rglob("*")
        if file.suffix in LINED and (lines := file.read_text("utf-8").count("\n")) > MOST_LINES
    }
    assert not long


def read_map() -> dict[Path, list[str]]:
    """Modules by folder, as docs/architecture.md has them.

    A line of the map is a folder (``api/  what it is``) or modules (``pipeline job  what they
    are``); two spaces of indentation are one level.
    """
    (block,) = re.findall(
        r"```text map\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.S
    )
    found: dict[Path, list[str]] = {}
    path: list[str] = []
    for line in block.splitlines():
        indent, names, description = re.fullmatch(
            r"( *)(\S+(?: \S+)*)(?:  +(\S.*))?", line
        ).groups()  # type: ignore[union-attr]
        assert description, f"{names} has no description"
        depth = len(indent) // 2
        if names.endswith("/"):
            path = [*path[:depth], names.rstrip("/")]
            found[Path(*path)] = []
        else:
            found[Path(*path[:depth])] += names.split()
    return found


def test_the_map_names_every_module_once_and_nothing_else() -> None:
    mapped = read_map()
    there = {folder: modules_of(ROOT / folder) for folder in folders(*MAPPED)}
    for folder, modules in there.items():
        assert folder in mapped, f"the map misses {folder}/"
        assert sorted(mapped[folder]) == sorted(modules), folder
    for folder in set(mapped) - set(there):
        assert (ROOT / folder).is_dir(), f"there is no {folder}/"
        assert not mapped[folder], f"{folder}/ has no modules"


def test_unit_tests_mirror_the_sources() -> None:
    """A unit test lies in the folder of what it tests."""
    for test in sorted((ROOT / "tests/unit").rglob("test_*.py")):
        folder = test.parent.relative_to(ROOT / "tests/unit")
        if folder == Path("."):
            continue
        source = ROOT / folder
        assert source.is_dir(), f"{test.relative_to(ROOT)}: there is no {folder}/"
