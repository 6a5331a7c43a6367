"""One of several processes that train one model after another: ``torchrun -m tests.training_worker
DIRECTORY``, a recipe a model."""

from __future__ import annotations

import sys
from pathlib import Path

from osa.service.cli import main

MORE = ["--quiet", "--dtype", "float32"]


def train(recipe: Path, output: Path, *settings: str) -> int:
    """The exit code of ``osa train``."""
    given = [word for setting in settings for word in ("--set", setting)]
    return main(["train", "--config", str(recipe), "--output", str(output), *MORE, *given])


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    for file in sorted(directory.glob("*.toml")):
        code = train(file, directory / f"shared-{file.stem}", "sequence_parallel=2")
        if code:
            sys.exit(code)
