"""The package: listed folders, data files, lengths of files, the packaged model."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("model", "export", "service", "tests", "benchmarks")


def project() -> dict[str, object]:
    settings: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return settings


def test_every_package_directory_is_listed() -> None:
    """An unlisted subpackage works in an editable install and is missing from the wheel."""
    found = {
        "osa." + ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("model", "export", "service")
        for file in (ROOT / top).rglob("__init__.py")
    }
    tool = project()["tool"]
    assert isinstance(tool, dict)
    assert set(tool["setuptools"]["packages"]) == found


def test_every_data_file_is_in_the_wheel() -> None:
    """A file that no pattern names works in an editable install and is missing from the wheel."""
    tool = project()["tool"]
    assert isinstance(tool, dict)
    patterns: dict[str, list[str]] = tool["setuptools"]["package-data"]
    folders: dict[str, str] = tool["setuptools"]["package-dir"]
    packages = {
        name: ROOT / name.replace(prefix, folder, 1).replace(".", "/")
        for name in tool["setuptools"]["packages"]
        for prefix, folder in folders.items()
        if name.startswith(prefix)
    }
    shipped = {
        file
        for name, folder in packages.items()
        for pattern in [*patterns["*"], *patterns.get(name, [])]
        for file in folder.glob(pattern)
    }
    present = {
        file
        for top in ("model", "export", "service")
        for file in (ROOT / top).rglob("*")
        if file.is_file()
        and file.suffix not in (".py", ".so", ".pyd")  # libraries are built, not shipped
        and "__pycache__" not in file.parts
    }
    assert present - shipped == set()


def test_a_change_of_any_source_builds_the_cpu_kernel_anew() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    (extension,) = tool["setuptools"]["ext-modules"]
    folder = ROOT / "model" / "kernels" / "csrc"
    listed = {ROOT / file for file in (*extension["sources"], *extension["depends"])}
    assert listed == set(folder.iterdir())


@pytest.mark.parametrize("top", CODE)
def test_no_file_is_over_300_lines(top: str) -> None:
    files = (file for suffix in ("py", "h", "cpp") for file in (ROOT / top).rglob(f"*.{suffix}"))
    for file in files:
        assert len(file.read_text().splitlines()) <= 300, file


def test_the_packaged_model_is_small_whole_and_described() -> None:
    directory = ROOT / "model" / "pretrained" / "default"
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 50_000_000
    manifest = json.loads((directory / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == entry["sha256"]
    assert (ROOT / "model" / "pretrained" / "README.md").is_file()
