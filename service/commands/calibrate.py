"""``osa calibrate``: measure and store the ranges of int8 and uint8 vectors."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from osa.model.common.directories import check_parent, describe_path, kind_of
from osa.model.common.progress import Progress, say
from osa.model.common.requirements import require
from osa.model.errors import ConfigError
from osa.service.commands.command_parser import positive
from osa.service.commands.preflight import input_kind

SLICE = 256
"""Inputs embedded between two updates of the progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a checkpoint")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--texts", type=Path, metavar="FILE", help="typical texts, one per line")
    given.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="for a feature model: typical records with features (.jsonl, .parquet, .arrow)",
    )
    parser.add_argument(
        "--limit", type=positive, default=20_000, metavar="N", help="read at most so many inputs"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the existing ranges of the checkpoint"
    )


def run(options: argparse.Namespace) -> int:
    """Write ``calibration.json`` into the checkpoint; returns the exit code.

    Raises:
        ConfigError: Not a checkpoint, one that already has ranges or takes other inputs, or too few
            inputs.
        DataError: A record that holds no features.
    """
    from osa.model.calibration import CALIBRATION, Calibration, check_count

    if kind_of(options.model) != "checkpoint":
        raise ConfigError(f"--model must be a checkpoint: {describe_path(options.model)}")
    target = options.model / CALIBRATION
    if target.exists() and not options.force:
        raise ConfigError(f"{target} exists: pass --force to replace it")
    check_parent(target)
    kind = "texts" if options.features is None else "features"
    if (input_kind(options.model) == "features") != (kind == "features"):
        other = "features" if kind == "texts" else "texts"
        raise ConfigError(f"--{kind} was given, but the model in {options.model} takes {other}")
    inputs: list[Any] = (
        _read_texts(options.texts, options.limit)
        if kind == "texts"
        else _read_features(options.features, options.limit)
    )
    check_count(len(inputs))
    say("loading the model")
    import torch

    from osa.model.checkpoint import write_manifest
    from osa.model.embedding_model import EmbeddingModel

    model = EmbeddingModel.from_pretrained(options.model)
    parts = []
    encode: Callable[[Any], torch.Tensor]
    encode = model.encode if kind == "texts" else model.encode_features
    with Progress("embedding", kind, len(inputs)) as progress:
        for start in range(0, len(inputs), SLICE):
            part = inputs[start : start + SLICE]
            parts.append(encode(part))
            progress.update(len(part))
    vectors = torch.cat(parts).numpy()
    calibration = Calibration.measure(vectors, model.config.allowed_dimensions)
    target.write_text(calibration.to_json(), encoding="utf-8")
    write_manifest(options.model)
    say(f"measured {len(inputs)} {kind}; wrote {target}")
    return 0


def _read_features(file: Path, limit: int) -> list[Any]:
    """The first ``limit`` sequences of a file of records, float32 [n, F].

    Raises:
        ConfigError: The file cannot be read.
        DataError: A record that holds none; the first is named.
    """
    require("osa calibrate --features", "embed", "pyarrow")
    from osa.model.records.errors import DataError
    from osa.model.records.fields import Field
    from osa.model.records.readers import read_file
    from osa.model.records.record import Blank, Problem

    wanted = (Field("features", "features", "features"),)
    records = (item for item in read_file(file, wanted) if not isinstance(item, Blank))
    found = []
    for item in itertools.islice(records, limit):
        if isinstance(item, Problem):
            raise DataError(str(item))
        found.append(item.values["features"])
    return found


def _read_texts(file: Path, limit: int) -> list[str]:
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
