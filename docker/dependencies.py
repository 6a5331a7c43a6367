"""Prints the project's dependencies as a requirements file.

    python docker/dependencies.py [EXTRA,...] [--without NAME,...] [--cpu TORCH_INDEX]

The image installs them before the sources are copied, so that a change of code keeps the large
layer; a slim environment leaves out what it does not use (docs/operations.md).
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
"""As index of CPU builds: pip's usual index has them (a mirror's choice, or another platform)."""
NAME = re.compile(r"[A-Za-z0-9._-]+")


class RequestError(Exception):
    """What was asked for cannot be had; the message says what can."""


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
    """Options that make pip take torch's build for CPUs.

    Raises:
        RequestError: On this platform the usual index has the CUDA build, and no other is named.
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
    """Print; returns the exit code."""
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
