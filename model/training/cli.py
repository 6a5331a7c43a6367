"""``osa train``: from a TOML file to a checkpoint directory, alone or under ``torchrun``."""

from __future__ import annotations

import argparse
from pathlib import Path

from osa.model.training import RECIPES

DTYPES = ("bfloat16", "float16", "float32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``osa train``."""
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="TOML file, or the name of a packaged recipe: "
        + ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml"))),
    )
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field, e.g. --set optimizer.steps=400 (may be repeated)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the saved state")
    parser.add_argument(
        "--force",
        action="store_true",
        help="start anew and replace the checkpoint or the state that is there",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit code.

    Raises:
        OsaError: Naming what was wrong.
    """
    from osa.model.training.request import read_request

    config = read_request(options)
    from osa.model.training.run import train

    return train(config, options)
