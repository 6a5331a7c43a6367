"""An ``osa`` command in a process of its own: exit code, output, and imported modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
import json, sys
hidden, arguments = json.loads(sys.argv[1]), sys.argv[2:]

class Hider:
    def find_spec(self, name, path=None, target=None):
        if any(name == module or name.startswith(module + ".") for module in hidden):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hider())
from osa.service.cli import main
try:
    code = main(arguments)
except SystemExit as end:
    code = end.code
print()
print(json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    errors: str
    modules: frozenset[str]

    def imported(self, *packages: str) -> set[str]:
        """Those of ``packages`` that were imported."""
        return {name for name in packages if name in self.modules}


def run_command(
    *arguments: object,
    hidden: tuple[str, ...] = (),
    cwd: Path | None = None,
    **environment: str,
) -> Done:
    """Run ``osa`` with these arguments; modules that are ``hidden`` cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(hidden), *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    out, _, last = done.stdout.rstrip("\n").rpartition("\n")
    facts = json.loads(last)
    return Done(facts["code"], out, done.stderr, frozenset(facts["modules"]))
