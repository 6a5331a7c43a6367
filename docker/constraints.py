"""Writes ``constraints.txt``: the versions that an image is built with.

Run ``python docker/constraints.py`` in the environment in which the tests passed: it takes the
installed versions of all direct and indirect dependencies, with the extras of the images.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TARGET = Path(__file__).with_name("constraints.txt")
EXTRAS = ("", "hub", "tracing", "grpc", "train")
HEADER = "# Written by docker/constraints.py. Versions that the tests passed with.\n"
NOT_PINNED = {"osa-encoder", "torch", "triton"}
"""The project itself; torch is pinned by pyproject.toml, and brings the Triton that fits it."""


def needed(name: str, extras: set[str], found: dict[str, str], seen: set[tuple[str, str]]) -> None:
    """Add ``name`` and all its dependencies to ``found``.

    Args:
        name: A distribution; ignored if it is not installed.
        extras: Its extras.
        found: Versions by name; added to.
        seen: Pairs of name and extra that are done; added to.
    """
    try:
        package = distribution(name)
    except PackageNotFoundError:  # of another platform, or a CUDA library
        return
    found[canonicalize_name(name)] = package.version.partition("+")[0]
    for extra in extras | {""}:
        key = (canonicalize_name(name), extra)
        if key in seen:
            continue
        seen.add(key)
        for text in package.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed(requirement.name, set(requirement.extras), found, seen)


def main() -> int:
    """Write the file, or compare it with ``--check``; returns the exit code."""
    found: dict[str, str] = {}
    needed("osa-encoder", set(EXTRAS), found, set())
    pins = [f"{name}=={found[name]}\n" for name in sorted(found) if name not in NOT_PINNED]
    text = HEADER + "".join(pins)
    if "--check" in sys.argv:
        return int(TARGET.read_text() != text)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
