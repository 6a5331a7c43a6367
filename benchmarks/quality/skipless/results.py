"""Results of runs: a file with one line per run, the sweep, and means over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.skipless.data import Task
from benchmarks.quality.skipless.grid import PROBED_SEED, RATES, Cell, Recipe, Run, Study
from benchmarks.quality.skipless.training import train

Result = Mapping[str, Any]


class Cache:
    """Results by key, stored in a file of JSON lines: an interruption loses one run at most."""

    def __init__(self, file: Path, recipe: Recipe) -> None:
        """Read the file, if it exists."""
        self.file, self.recipe = file, recipe
        self.found: dict[str, Result] = {}
        self.read()

    def read(self) -> None:
        """Read the file again; an incomplete line is ignored."""
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self.found[entry["key"]] = entry

    def get(self, run: Run) -> Result | None:
        """The result of a run; None if it is missing."""
        return self.found.get(run.key(self.recipe))

    def put(self, run: Run, result: Result) -> None:
        """Add a result, and append it to the file."""
        entry = {"key": run.key(self.recipe), **result}
        self.found[entry["key"]] = entry
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as opened:
            if opened.tell() and not self.file.read_bytes().endswith(b"\n"):
                opened.write(b"\n")  # end an incomplete line
            opened.write(json.dumps(entry).encode() + b"\n")


def merit(result: Result) -> tuple[bool, float, float]:
    """Sort key of learning rates: not diverged, then validation accuracy, then loss."""
    return not result["diverged"], result["validation"], -result["loss"]


def next_rate(cache: Cache, cell: Cell, seed: int) -> float | None:
    """The learning rate to try next; None if all three are known."""
    low, high = RATES[1:-1]
    for rate in (low, high):
        if cache.get(Run(cell, rate, seed)) is None:
            return rate
    better = max(
        (low, high), key=lambda rate: merit(cache.found[Run(cell, rate, seed).key(cache.recipe)])
    )
    third = RATES[0] if better == low else RATES[-1]
    return third if cache.get(Run(cell, third, seed)) is None else None


def chosen_rate(cache: Cache, cell: Cell, seed: int) -> float | None:
    """The best of the three learning rates; None until all are known."""
    if next_rate(cache, cell, seed) is not None:
        return None
    runs = [(rate, cache.get(Run(cell, rate, seed))) for rate in RATES]
    known = [(merit(result), rate) for rate, result in runs if result is not None]
    return max(known)[1]


def sweep(
    study: Study, task_of: Callable[[str], Task], cache: Cache, say: Callable[[str], None]
) -> None:
    """Train the missing runs: three learning rates with the first seed, the best with the others.

    Args:
        study: Cells and seeds.
        task_of: From a name to the task.
        cache: Receives the results.
        say: Receives progress messages.
    """

    def ensure(cell: Cell, rate: float, seed: int) -> None:
        run = Run(cell, rate, seed)
        if cache.get(run) is None:
            result = train(run, task_of(cell.task), cache.recipe)
            cache.put(run, result)
            say(f"{run.key(cache.recipe)} {result['validation']:.3f} {result['cpu_s']:.1f} s")

    for cell in study.cells:
        cache.read()  # results of other processes
        first, *others = study.seeds
        while (rate := next_rate(cache, cell, first)) is not None:
            ensure(cell, rate, first)
        best = chosen_rate(cache, cell, first)
        assert best is not None  # all three rates are known
        for seed in others:
            ensure(cell, best, seed)


@dataclass(frozen=True)
class Summary:
    """A cell at its best learning rate, over its seeds; ``probed`` has the Jacobian."""

    cell: Cell
    rate: float
    results: tuple[Result, ...]
    probed: Result | None

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(result["test"] for result in self.results)

    @property
    def spread(self) -> float:
        """Standard deviation of the test accuracy over seeds; NaN for one seed."""
        values = [result["test"] for result in self.results]
        return statistics.stdev(values) if len(values) > 1 else float("nan")

    @property
    def loss(self) -> float:
        """Mean training loss at the end."""
        return statistics.fmean(result["loss"] for result in self.results)

    def condition(self, step: int) -> float:
        """Condition number of the Jacobian after ``step`` updates; NaN if it was not measured."""
        spectrum = (self.probed or {}).get("jacobian", {}).get(str(step))
        if spectrum is None:
            return float("nan")
        smallest: float = spectrum["smallest"]
        return float(spectrum["largest"]) / smallest if smallest > 0 else float("inf")

    def layer(self, name: str, step: int) -> list[float]:
        """A statistic of the states by depth after ``step`` updates; empty if not measured."""
        values: list[float] = (self.probed or {}).get("layers", {}).get(str(step), {}).get(name, [])
        return values

    def gradient_ratios(self) -> list[float]:
        """Gradient norm of the first block over that of the last, geometric means over seeds.

        One value per entry of the curve.
        """
        curves = [result["curve"] for result in self.results]
        ratios = []
        for row in range(min(len(curve["step"]) for curve in curves)):
            parts = [curve["first"][row] / max(curve["last"][row], 1e-30) for curve in curves]
            ratios.append(statistics.geometric_mean(max(part, 1e-30) for part in parts))
        return ratios


def summarize(study: Study, cache: Cache) -> list[Summary]:
    """Cells whose learning rate is chosen, with the results known so far."""
    found = []
    for cell in study.cells:
        rate = chosen_rate(cache, cell, study.seeds[0])
        if rate is None:
            continue
        known = {seed: cache.get(Run(cell, rate, seed)) for seed in study.seeds}
        results = tuple(result for result in known.values() if result is not None)
        found.append(Summary(cell, rate, results, known.get(PROBED_SEED)))
    return found
