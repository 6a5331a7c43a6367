"""``osa train``: from a TOML file to a checkpoint directory, in one process or by ``torchrun``."""

from __future__ import annotations

import argparse
from pathlib import Path

from osa.model.common.directories import WEIGHT_TYPES
from osa.model.training import RECIPES


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
    parser.add_argument("--resume", action="store_true", help="resume from the saved state")
    parser.add_argument(
        "--force",
        action="store_true",
        help="start anew and replace an existing checkpoint or saved state",
    )
    parser.add_argument(
        "--dtype", choices=WEIGHT_TYPES, default="float16", help="of the stored weights"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit code.

    Raises:
        OsaError: The request is refused, or training fails.
    """
    from osa.model.training.request import read_request

    config = read_request(options)
    from osa.model.training.run import train

    return train(config, options)
