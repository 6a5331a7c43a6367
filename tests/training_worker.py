"""Trains by every recipe of a directory: ``torchrun -m tests.training_worker DIRECTORY``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from osa.model.training import run
from osa.model.training.distributed import process_group
from osa.service.cli import main

MORE = ["--quiet", "--dtype", "float32"]


def train(recipe: Path, output: Path, *settings: str) -> int:
    """The exit code of ``osa train``."""
    given = [word for setting in settings for word in ("--set", setting)]
    return main(["train", "--config", str(recipe), "--output", str(output), *MORE, *given])


def train_all(directory: Path) -> int:
    """Train by every recipe; the processes meet once."""
    with process_group() as processes:
        vars(run)["process_group"] = lambda: nullcontext(processes)
        for file in sorted(directory.glob("*.toml")):
            code = train(file, directory / f"shared-{file.stem}", "sequence_parallel=2")
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(train_all(Path(sys.argv[1])))
