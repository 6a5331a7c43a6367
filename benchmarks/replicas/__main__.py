"""Many replicas, simulated: p99 and cost by number of pods, signal, policy, size and faults.

    python -m benchmarks.replicas [--rate TOKENS_PER_S [--batch-ms MS]] [--cores 2] [--rounds 15]
        [--requests 100000] [--large] [--quick] [--output FILE]

The rate of a pod is measured by CPU time with the packaged model, unless it is given.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.common.machine import read_machine
from benchmarks.common.plots import require_matplotlib
from benchmarks.common.report import REPORTS, fact_list, progress, write_measured
from benchmarks.replicas import experiments, report
from benchmarks.replicas.engine_rate import measure
from benchmarks.replicas.experiments import Row
from benchmarks.replicas.load import Lengths
from benchmarks.replicas.pods import EngineCost
from benchmarks.replicas.simulation import World

TITLE = "Many replicas: p99 and cost, simulated"
LARGE = (64.0, 256.0)
"""Peaks of the largest runs, with ``--large`` [pods]."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=TITLE)
    parser.add_argument("--rate", type=float, help="of a pod, instead of measuring it [tokens/s]")
    parser.add_argument("--batch-ms", type=float, default=0.5, help="of every batch, with --rate")
    parser.add_argument("--cores", type=float, default=2.0, help="of a pod")
    parser.add_argument("--rounds", type=int, default=15, help="of the measurement")
    parser.add_argument("--requests", type=int, default=100_000, help="of a run at a steady load")
    parser.add_argument("--large", action="store_true", help="peaks of 64 and 256 pods too")
    parser.add_argument("--quick", action="store_true", help="to try the command")
    parser.add_argument("--output", type=Path, default=REPORTS / "replicas_simulated_202611.md")
    options = parser.parse_args(arguments)
    if options.rate is not None and not 0 < options.rate < math.inf:
        parser.error(f"--rate must be above 0, got {options.rate:g}")
    return options


def run(title: str, rows: Iterable[Row]) -> list[Row]:
    """Rows of an experiment, with progress."""
    found = []
    for row in rows:
        found.append(row)
        p99 = row.outcome.quantile(0.99)
        progress(f"{title}: {', '.join(row.labels)}: p99 {p99:.2f} s, cost {row.outcome.cost:.2f}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parse(arguments)
    require_matplotlib()
    if options.rate is None:
        cost, said = measure(options.rounds, options.cores)
    else:
        cost, said = EngineCost(options.batch_ms / 1e3, 1.0 / options.rate), "given"
    lengths = Lengths(median=4000.0, sigma=0.8) if options.quick else Lengths()
    world = World(cost, lengths=lengths)
    requests = 2_000 if options.quick else options.requests
    sizes = experiments.SIZES[:2] if options.quick else experiments.SIZES
    sizes = (*sizes, *LARGE) if options.large else sizes
    late = world.late_s
    steady = run("steady", experiments.fixed(world, requests))
    signals = run("signals", experiments.by_signal(world))
    sections = [
        report.section("Fixed pods", ("pods", "busy", "routing"), steady, late),
        report.section("Signals", ("load", "signal"), signals, late),
        report.section(
            "Targets of the backlog",
            ("load", "target [s]"),
            run("targets", experiments.by_target(world)),
            late,
        ),
        report.section(
            "Policies", ("load", "policy"), run("policies", experiments.by_policy(world)), late
        ),
        report.section(
            "Sizes",
            ("peak [pods]", "policy"),
            run("sizes", experiments.by_size(world, sizes)),
            late,
        ),
        report.section("Faults", ("pods",), run("faults", experiments.by_fault(world)), late),
    ]
    facts = read_machine("cpu") | {
        "engine": said,
        "a pod": f"{options.cores:g} cores, {cost.rate:.0f} tokens/s in large batches",
        "inputs": f"log-normal, median {lengths.median:g}, mean {lengths.mean():.0f} tokens",
    }
    parts = [fact_list(facts), report.explain(world), *sections]
    write_measured(options.output, TITLE, "\n\n".join(parts))
    stem = options.output.with_suffix("")
    report.plot_fixed(steady, Path(f"{stem}_pods.svg"))
    report.plot_traces(signals, Path(f"{stem}_signals.svg"))
    progress(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
