"""The metrics of a run: ``metrics.csv``, TensorBoard events, and curves at the end."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

METRICS, CURVES, EVENTS = "metrics.csv", "curves.svg", "tensorboard"


class MetricLog:
    """Log of metrics by update; a resumed run drops the rows after the state it resumes from."""

    def __init__(
        self,
        directory: Path,
        columns: Sequence[str],
        step: int,
        tensorboard: bool = False,
        active: bool = True,
    ) -> None:
        """Describe the log; ``with`` opens it.

        Args:
            directory: Directory of the files.
            columns: Names of the metrics.
            step: Updates done; rows up to it are kept.
            tensorboard: Also write TensorBoard events.
            active: Whether this process writes.
        """
        self.directory, self.columns, self.step = directory, ("step", *columns), step
        self.active = active
        self._file: TextIO | None = None
        self._events: Any = None
        if tensorboard and active:
            board = importlib.import_module("torch.utils.tensorboard")
            self._events = board.SummaryWriter(str(directory / EVENTS), purge_step=step or None)

    def __enter__(self) -> Self:
        """Open ``metrics.csv`` with the rows up to ``step``."""
        if not self.active:
            return self
        path = self.directory / METRICS
        kept: list[str] = []
        if self.step and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines[1:] if _step_of(line) <= self.step]
        self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self.columns)
        self._file.writelines(line + "\n" for line in kept)
        return self

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of an update; other columns stay empty."""
        if self._file is None:
            return
        row = [step, *(values.get(name, "") for name in self.columns[1:])]
        self._writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def _step_of(line: str) -> float:
    """Update of a row; infinity for a row that is incomplete because the process was killed."""
    cell = line.split(",", 1)[0]
    return int(cell) if cell.isdigit() else float("inf")


def plot_curves(directory: Path) -> Path | None:
    """Draw every column of ``metrics.csv`` over the updates; None without matplotlib."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return None
    with (directory / METRICS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "step" and any(row[name] for row in rows)]
    height = (len(names) + 2) // 3
    figure = figures.Figure(figsize=(12, 2.6 * height), layout="constrained")
    axes = figure.subplots(height, 3, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    path = directory / CURVES
    figure.savefig(path)
    return path
