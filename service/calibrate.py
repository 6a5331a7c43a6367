"""``osa calibrate``: measure the ranges that int8 and uint8 vectors need, and store them."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from osa.model.calibration import CALIBRATION, Calibration
from osa.model.checkpoint import MANIFEST, write_manifest
from osa.model.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a checkpoint")
    parser.add_argument(
        "--texts", type=Path, required=True, metavar="FILE", help="texts of your kind, one a line"
    )
    parser.add_argument("--limit", type=int, default=20_000, help="read so many lines at most")


def run(options: argparse.Namespace) -> int:
    """Write ``calibration.json`` into the checkpoint; returns the exit code.

    Raises:
        ConfigError: No checkpoint, or too few texts.
    """
    from osa.model import EmbeddingModel

    if not (options.model / MANIFEST).is_file():
        raise ConfigError(f"--model must be a checkpoint, got {options.model}")
    try:
        with options.texts.open(encoding="utf-8") as lines:
            stripped = (line.strip() for line in lines)
            texts = list(itertools.islice((text for text in stripped if text), options.limit))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--texts {options.texts} cannot be read: {error}") from error
    model = EmbeddingModel.from_pretrained(options.model)
    vectors = model.encode(texts).numpy() if texts else model.encode(["."]).numpy()[:0]
    calibration = Calibration.measure(vectors, model.config.allowed_dimensions)
    (options.model / CALIBRATION).write_text(calibration.to_json(), encoding="utf-8")
    write_manifest(options.model)
    print(f"measured {len(texts)} texts; wrote {options.model / CALIBRATION}", file=sys.stderr)
    return 0
