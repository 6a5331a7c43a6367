"""``osa calibrate``: measure and store the ranges of int8 and uint8 vectors."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from osa.model.common.directories import check_parent, describe_path, kind_of
from osa.model.common.progress import Progress, say
from osa.model.errors import ConfigError
from osa.service.commands.command_parser import positive

SLICE = 256
"""Texts embedded between two updates of the progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a checkpoint")
    parser.add_argument(
        "--texts", type=Path, required=True, metavar="FILE", help="typical texts, one per line"
    )
    parser.add_argument(
        "--limit", type=positive, default=20_000, metavar="N", help="read at most so many texts"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the existing ranges of the checkpoint"
    )


def run(options: argparse.Namespace) -> int:
    """Write ``calibration.json`` into the checkpoint; returns the exit code.

    Raises:
        ConfigError: Not a checkpoint, one that already has ranges, or too few texts.
    """
    from osa.model.calibration import CALIBRATION, Calibration, check_count

    if kind_of(options.model) != "checkpoint":
        raise ConfigError(f"--model must be a checkpoint: {describe_path(options.model)}")
    target = options.model / CALIBRATION
    if target.exists() and not options.force:
        raise ConfigError(f"{target} exists: pass --force to replace it")
    check_parent(target)
    texts = _read(options.texts, options.limit)
    check_count(len(texts))
    say("loading the model")
    import torch

    from osa.model.checkpoint import write_manifest
    from osa.model.embedding_model import EmbeddingModel

    model = EmbeddingModel.from_pretrained(options.model)
    parts = []
    with Progress("embedding", "texts", len(texts)) as progress:
        for start in range(0, len(texts), SLICE):
            part = texts[start : start + SLICE]
            parts.append(model.encode(part))
            progress.update(len(part))
    vectors = torch.cat(parts).numpy()
    calibration = Calibration.measure(vectors, model.config.allowed_dimensions)
    target.write_text(calibration.to_json(), encoding="utf-8")
    write_manifest(options.model)
    say(f"measured {len(texts)} texts; wrote {target}")
    return 0


def _read(file: Path, limit: int) -> list[str]:
    """The first ``limit`` lines of a file that are not blank.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            stripped = (line.strip() for line in lines)
            return list(itertools.islice((text for text in stripped if text), limit))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--texts {file} cannot be read: {error}") from error
