"""``osa download``: a model of the hub into the cache of this machine."""

from __future__ import annotations

import argparse

from osa.model.common.hub_reference import parse_reference
from osa.model.common.progress import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="hf:ORG/NAME", help="hf:ORG/NAME or hf:ORG/NAME@REVISION")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ask the hub again: follow a branch that has moved, replace damaged files",
    )


def run(options: argparse.Namespace) -> int:
    """Download and verify; prints the directory, and returns the exit code.

    Raises:
        ConfigError: A malformed reference, or ``huggingface_hub`` is not installed.
        DownloadError: The model cannot be had, or its files have changed.
    """
    reference = parse_reference(options.model)
    from osa.model.download.models import fetch_model

    print(fetch_model(reference, options.refresh, say).path)
    return 0
