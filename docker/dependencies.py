"""Prints the project's dependencies as a requirements file.

    python docker/dependencies.py [EXTRA,...] [--without NAME,...] [--cpu TORCH_INDEX]

The image installs them before it copies the sources, so that a change of code does not rebuild the
large layer; a slim environment leaves out what it does not use (docs/operations.md).
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
USUAL = "usual"
"""Value of TORCH_INDEX: pip's default index has CPU builds, as some mirrors and platforms do."""
NAME = re.compile(r"[A-Za-z0-9._-]+")


class RequestError(Exception):
    """Invalid arguments; the message names the valid ones."""


def requirements(extras: list[str], without: list[str]) -> Iterator[str]:
    """The project's requirements and those of its ``extras``, less the packages ``without``.

    Raises:
        RequestError: An extra or a package that the project does not have.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            known = ", ".join(project["optional-dependencies"])
            raise RequestError(f"EXTRAS has {extra}; extras are {known}")
        wanted += project["optional-dependencies"][extra]
    names = [match[0] for text in wanted if (match := NAME.match(text))]
    if unknown := sorted(set(without) - set(names)):
        raise RequestError(f"--without has {', '.join(unknown)}; packages are {', '.join(names)}")
    return (text for text, name in zip(wanted, names, strict=True) if name not in without)


def index_lines(index: str) -> list[str]:
    """Lines of the requirements file that make pip install torch's CPU build.

    Raises:
        RequestError: ``index`` is empty on a platform where pip's default index has the CUDA build.
    """
    if index == USUAL:
        return []
    if not index and platform.machine().lower() in ("x86_64", "amd64"):
        raise RequestError(
            "TORCH_INDEX is not set, and pip's usual index has torch with CUDA alone for this "
            "platform (several GB). Set it to PyTorch's index of builds for CPUs, which "
            f"pytorch.org names under 'Start locally'; or to '{USUAL}' if yours has such builds"
        )
    return [f"--extra-index-url {index}"] if index else []


def main() -> int:
    """Print the requirements; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("extras", nargs="?", default="", metavar="EXTRA,...")
    parser.add_argument("--without", default="", metavar="NAME,...", help="packages to leave out")
    parser.add_argument("--cpu", metavar="TORCH_INDEX", help="torch's build for CPUs, from there")
    options = parser.parse_args()
    extras, without = (
        [name for name in text.split(",") if name] for text in (options.extras, options.without)
    )
    try:
        lines = [] if options.cpu is None else index_lines(options.cpu)
        lines += requirements(extras, without)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
