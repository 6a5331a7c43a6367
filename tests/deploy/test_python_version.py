"""Nothing needs a newer Python than the image's: Debian 12 has 3.11.2.

Tests run with whatever 3.11 there is, mostly a later one, into which features were brought back.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart import ROOT
from tests.deploy.image_python import NEWEST, image_python

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
SOURCES = ("model", "export", "service", "helm", "docker", "benchmarks")
LATER = {"data_filter", "tar_filter", "fully_trusted_filter", "FilterError"}
"""Of tarfile, since 3.11.4."""
UNFILTERED = {"extractall", "unpack_archive"}
"""Safe with one of these alone."""
EVERY_MODULE = """
import importlib, pathlib, site, sys
root = pathlib.Path(sys.argv[1])
site.addsitedir(sys.argv[2])
for part in ("model", "export", "service"):
    for file in sorted((root / part).rglob("*.py")):
        name = ".".join(("osa", *file.relative_to(root).with_suffix("").parts))
        importlib.import_module(name.removesuffix(".__init__"))
        if file.name != "__main__.py":
            print(name)
"""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for part in SOURCES:
        for file in sorted((ROOT / part).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))


def test_nothing_calls_what_the_images_python_lacks() -> None:
    found = []
    for file, tree in sources():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.alias):
                name = node.name
            if name in UNFILTERED | LATER:
                found.append(f"{file}: {name}")
    assert found == [], "unpack member by member, as helm/files/unpack_model.py, or with tar"


def test_the_image_has_the_least_python_of_the_project() -> None:
    base = re.search(r"^ARG BASE=.*/debian:(\d+)", DOCKERFILE, re.M)
    assert base is not None
    assert base[1] == "12", "another Debian, another Python: see image_python.py"
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
    assert NEWEST < (3, 11, 4)


def test_every_module_is_imported_by_the_images_python() -> None:
    """With the packages of this environment: those of one 3.11 fit every other."""
    python = image_python()
    if python is None:
        pytest.skip("no Python of 3.11.0 to 3.11.3 here, as Debian 12's python3")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the packages of this environment are for another Python than 3.11")
    done = subprocess.run(
        [python, "-B", "-c", EVERY_MODULE, str(ROOT), sysconfig.get_path("purelib")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(ROOT.anchor),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) > 200


def test_ci_runs_these_tests_on_the_debian_of_the_image() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    base = re.search(r"^ARG BASE=docker.io/library/(\S+)", DOCKERFILE, re.M)
    assert base is not None
    assert workflow["jobs"]["debian"]["container"] == base[1]
