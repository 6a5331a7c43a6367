"""Prints the project's dependencies, one a line: ``dependencies.py [EXTRA,...]``.

Installed before the sources are copied, so that a change of code keeps the large layer.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main() -> int:
    """Print; returns the exit code."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in filter(None, ",".join(sys.argv[1:]).split(",")):
        if extra not in project["optional-dependencies"]:
            known = ", ".join(project["optional-dependencies"])
            print(f"EXTRAS has {extra}; extras are {known}", file=sys.stderr)
            return 1
        wanted += project["optional-dependencies"][extra]
    print("\n".join(wanted))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
