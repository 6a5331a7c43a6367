"""Documents of any length: memory, time, short requests beside them, and several devices.

    python -m benchmarks.streaming [--only PART ...] [--quick] [--longest N] [--rounds N]
        [--at-most SECONDS] [--results FILE] [--output FILE]

Parts are ``lengths`` (the Python API, a process a length), ``routes`` (the same over HTTP),
``beside`` (short requests alone and beside a document) and ``devices`` (what several devices send,
counted; the time that they take, modelled). What is measured is kept in ``--results`` at once: the
same command goes on with what is missing, and without anything missing writes the report again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common.machine import ROOT, read_machine
from benchmarks.common.plots import require_matplotlib
from benchmarks.common.report import fact_list, progress, write_measured
from benchmarks.streaming.beside import Round
from benchmarks.streaming.beside import measure as measure_beside
from benchmarks.streaming.report import (
    beside_table,
    device_tables,
    length_table,
    route_table,
    write_plot,
)
from benchmarks.streaming.routes import ROUTES
from benchmarks.streaming.routes import measure as measure_route
from benchmarks.streaming.store import Results

LENGTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
PARTS = ("lengths", "routes", "beside", "devices")
KEPT = ROOT / "build" / "benchmarks" / "streaming.jsonl"


class Clock:
    """How long a run may take; nothing is begun after that."""

    def __init__(self, at_most_s: float) -> None:
        """Begin."""
        self._end = time.monotonic() + at_most_s

    def is_over(self, what: str) -> bool:
        """Whether ``what`` must not be begun any more."""
        over = time.monotonic() > self._end
        if over:
            progress(f"{what} is left for the next run: --at-most has passed")
        return over


def run_lengths(options: argparse.Namespace, results: Results, clock: Clock) -> None:
    """Measure the lengths that are missing."""
    for tokens in LENGTHS:
        if tokens > options.longest:
            continue
        done = sum(row["tokens"] == tokens for row in results.of("lengths"))
        for _ in range(done, 1 if options.quick or tokens >= 1_000_000 else 3):
            if clock.is_over(f"{tokens:,} tokens"):
                return
            command = [sys.executable, "-m", "benchmarks.streaming.lengths", str(tokens)]
            command += ["--hidden-only"] if options.hidden_only else []
            command += ["--directory", str(options.directory)] if options.directory else []
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results.add("lengths", json.loads(found.stdout))
            progress(found.stdout.strip())


def run_routes(options: argparse.Namespace, results: Results, clock: Clock) -> None:
    """Measure the routes that are missing."""
    tokens = min(options.longest, 1_000_000)
    for route in ROUTES:
        known = any(
            (row["route"], row["tokens"]) == (route, tokens) for row in results.of("routes")
        )
        if known or clock.is_over(route):
            continue
        directory = [f"documents.directory={options.directory}"] if options.directory else []
        results.add("routes", measure_route(tokens, route, *directory))


def run_beside(options: argparse.Namespace, results: Results, clock: Clock) -> None:
    """Measure the rounds that are missing."""
    left = options.rounds - len(results.of("beside"))
    if left > 0 and not clock.is_over("short requests beside a document"):

        def keep(found: Round) -> None:
            results.add("beside", found._asdict())

        measure_beside(options.beside, left, 100 if options.quick else 300, keep)


def report(results: Results, parts: list[str], output: Path | None) -> str:
    """All that is known of some parts, as Markdown; the plot goes beside ``output``."""
    lines = [fact_list(read_machine("cpu"))]
    if rows := results.of("lengths") if "lengths" in parts else []:
        lines += ["## Memory and time by length, Python API, bfloat16", length_table(rows)]
        if output is not None:
            plot = output.with_suffix(".svg")
            write_plot(rows, plot)
            lines.append(f"![Memory and time by length]({plot.name})")
    if rows := results.of("routes") if "routes" in parts else []:
        lines += ["## A document over HTTP, as lines, one server each", route_table(rows)]
    if rows := results.of("beside") if "beside" in parts else []:
        lines += ["## Short requests beside a document, one server", beside_table(rows)]
    if "devices" in parts:
        title = "## Several devices: what one layer sends, counted, and its mixing time, modelled"
        lines += [title, device_tables()]
    return "\n\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="streaming", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--quick", action="store_true", help="lengths to 100,000, two rounds")
    parser.add_argument("--longest", type=int, default=1_000_000, metavar="N")
    parser.add_argument(
        "--hidden-only", action="store_true", help="1.5 kB a token on disk, not 3.8"
    )
    parser.add_argument("--directory", type=Path, help="of states, instead of the temporary one")
    parser.add_argument("--rounds", type=int, default=5, help="of short requests")
    parser.add_argument("--beside", type=int, default=2_000_000, metavar="N", help="its tokens")
    parser.add_argument("--at-most", type=float, default=86_400.0, metavar="SECONDS")
    parser.add_argument("--results", type=Path, default=KEPT, metavar="FILE", help="what is kept")
    parser.add_argument("--output", type=Path, metavar="FILE", help="report to write")
    options = parser.parse_args(arguments)
    if options.output is not None:
        require_matplotlib()
    if options.quick:
        options.longest, options.rounds = min(options.longest, 100_000), min(options.rounds, 2)
    results, clock = Results(options.results), Clock(options.at_most)
    steps = {"lengths": run_lengths, "routes": run_routes, "beside": run_beside}
    for part in options.only:
        if part in steps:
            steps[part](options, results, clock)
    measured = report(results, options.only, options.output)
    print(measured)
    if options.output is not None:
        write_measured(options.output, "Documents of any length", measured + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
