"""Directories that are no models: what an administrator might load by mistake or be talked into."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file


def broken_directories(folder: Path, checkpoint: Path) -> list[str]:
    """Write broken copies of a checkpoint.

    Args:
        folder: Where they go; created.
        checkpoint: A good one.

    Returns:
        Their paths, and a path that is too long to be one.
    """
    fifo, endless, deep, poisoned = (_copy(checkpoint, folder / n) for n in ("a", "b", "c", "d"))
    _replace(fifo / "config.json", lambda path: os.mkfifo(path))
    _replace(endless / "config.json", lambda path: path.symlink_to("/dev/zero"))
    config = json.loads((deep / "config.json").read_text())
    (deep / "config.json").write_text(json.dumps({**config, "num_layers": 1_000_000_000}))
    weights = next(poisoned.glob("*.safetensors"))
    save_file({name: value * float("nan") for name, value in load_file(weights).items()}, weights)
    return [*map(str, (fifo, endless, deep, poisoned)), "/" + "x" * 5000]


def _copy(checkpoint: Path, folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(checkpoint, folder)
    return folder


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)
