"""Depth without skip connections and norms: accuracy, conditioning, gradients, rank; the report.

    python -m benchmarks.quality.skipless --output benchmarks/reports
                                          [--studies mnist,glosses,wirings,starts] [--quick]
                                          [--data DIR] [--report-only]

The result of every run is stored in ``DIR/results.jsonl``: an interrupted command continues where
it stopped, and commands for different studies may run at the same time. The section "What it says"
is written by hand; it is kept when the report is written again. ``--quick`` trains shallow encoders
on scikit-learn's digits and writes files only with ``--output``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common.machine import ROOT, read_machine
from benchmarks.common.plots import PlotsMissing, require_matplotlib
from benchmarks.common.report import progress
from benchmarks.quality.skipless.data import TASKS, DataMissing, Task
from benchmarks.quality.skipless.grid import QUICK_RECIPE, QUICK_STUDIES, STUDIES, Recipe
from benchmarks.quality.skipless.plots import write_plots
from benchmarks.quality.skipless.report import Report, findings_of, render, to_json
from benchmarks.quality.skipless.results import Cache, summarize, sweep


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.skipless", description=summary
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the report")
    parser.add_argument("--studies", default="", help=f"of {', '.join(STUDIES)}; default all")
    parser.add_argument("--quick", action="store_true", help="digits, 2 blocks, 20 updates")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "skipless", metavar="DIR")
    parser.add_argument(
        "--report-only", action="store_true", help="of stored results; train nothing"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the missing runs and write the report; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    studies = QUICK_STUDIES if options.quick else STUDIES
    recipe = QUICK_RECIPE if options.quick else Recipe()
    names = options.studies.split(",") if options.studies else list(studies)
    if unknown := set(names) - set(studies):
        parser.error(f"studies are {', '.join(studies)}, got {', '.join(sorted(unknown))}")
    try:
        if options.output is not None:
            require_matplotlib()
    except PlotsMissing as error:
        parser.error(str(error))
    torch.set_num_threads(1)

    @functools.cache
    def task_of(name: str) -> Task:
        return TASKS[name](options.data / name)

    cache = Cache(options.data / ("quick.jsonl" if options.quick else "results.jsonl"), recipe)
    try:
        for name in names if not options.report_only else ():
            sweep(studies[name], task_of, cache, progress)
    except DataMissing as error:
        progress(str(error))
        return 1
    cache.read()
    summaries = {name: summarize(study, cache) for name, study in studies.items()}
    report = Report(read_machine("cpu"), recipe, summaries)
    if options.output is not None:
        written = options.output / f"{report.stem}.md"
        earlier = written.read_text() if written.is_file() else ""
        report = dataclasses.replace(report, findings=findings_of(earlier))
    text = render(report, plots=options.output is not None)
    print(text)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"{report.stem}.md").write_text(text)
        (options.output / f"{report.stem}.json").write_text(to_json(report, cache))
        write_plots(report, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
