"""Every mixer, residual rule, linear layer and size flag under one encoder: quality and cost.

    python -m benchmarks.systems --texts FILE ... --held-out FILE ... [--minutes 30 | --updates N]
        [--seeds 0,1]
        [--sts DIR] [--pairs FILE] [--systems NAME,...] [--phases quality,cost,start,contrastive]
        [--train-pairs FILE ...]
        [--lengths 32,512,4096,32768] [--output benchmarks/reports] [--work DIR] [--smoke]

``--minutes`` is the CPU time that the plain encoder is trained for; all others take as many updates
of the same texts. ``--updates`` says how many instead, so that a busy machine takes the same. Every
result is kept in ``--work``, and a training that was stopped goes on from its state: the same
command continues. ``--sts`` holds tab-separated files (STS12.tsv ...),
``--pairs`` lines of JSON with ``query`` and ``passage``; without them these scores are left out.
The phase ``contrastive`` trains from random weights on such pairs, those of ``--train-pairs``.
``--smoke`` takes one small layer, few updates and short sequences. Files are written only with
``--output``.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common.machine import ROOT, read_machine
from benchmarks.common.plots import PlotsMissing, require_matplotlib
from benchmarks.common.report import progress, write_measured
from benchmarks.systems import cost, quality, starts
from benchmarks.systems.inputs import check_inputs
from benchmarks.systems.plots import write_plots
from benchmarks.systems.report import SCORES, TITLE, Row, render, to_json
from benchmarks.systems.store import Store
from benchmarks.systems.systems import PLAIN, SIZES, SMOKE_SIZES, System, all_systems

PHASES = ("start", "cost", "quality", "contrastive")
CONTRASTIVE = "contrastive-"
"""Prefix of the results on pairs."""
LIMIT_S = 900.0
"""CPU costs that take longer are left out [s]."""
SOME, MORE = 4, 12
"""Updates of two short runs, whose difference is the time of an update."""


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=summary)
    parser.add_argument("--texts", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--held-out", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--minutes", type=float, default=30.0, help="CPU time of one training")
    parser.add_argument("--updates", type=int, metavar="N", help="instead of --minutes")
    parser.add_argument("--seeds", default="0", metavar="N,...")
    parser.add_argument("--sts", type=Path, metavar="DIR")
    parser.add_argument("--pairs", type=Path, metavar="FILE")
    parser.add_argument("--systems", default="", metavar="NAME,...", help="default is all")
    parser.add_argument("--train-pairs", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--phases", default=",".join(PHASES[:3]), metavar="PHASE,...")
    parser.add_argument("--lengths", default="32,512,4096,32768", metavar="N,...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, metavar="DIR")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "systems", metavar="DIR")
    parser.add_argument("--smoke", action="store_true")
    return parser


class Comparison:
    """Measures what is missing, and fills the rows of the report."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the command's options."""
        self.options = options
        self.sizes = SMOKE_SIZES if options.smoke else SIZES
        self.seeds = [int(seed) for seed in options.seeds.split(",")]
        self.lengths = [int(length) for length in options.lengths.split(",")]
        work = (options.work / "smoke" if options.smoke else options.work).resolve()
        self.store = Store(work / "results.jsonl")
        batch, tokens = (64, 32) if options.smoke else (256, 128)
        texts = [file.resolve() for file in options.texts]
        held_out = [file.resolve() for file in options.held_out]
        self.training = quality.Training(texts, held_out, self.sizes, batch, tokens, work)
        pairs = [file.resolve() for file in options.train_pairs]
        self.contrastive = replace(
            self.training, pairs=pairs, held_out=[options.pairs.resolve()] if options.pairs else []
        )

    def start(self, system: System, row: Row) -> None:
        """Condition at the start; accuracy on digits with and without skips."""
        key = f"start {system.key(self.sizes)}"
        found = self.store.get(key, lambda: {"condition": starts.condition(system)})
        row.condition = found["condition"]
        updates, depth = (5, 1) if self.options.smoke else (200, 8)
        for seed in self.seeds:
            for skips, name in ((True, "digits with skips"), (False, "digits without")):
                run = functools.partial(starts.digits, system, skips, seed, updates, depth)
                key = f"digits {skips} {seed} {updates} {system.key(self.sizes)}"
                value = self.store.get(key, lambda run=run: {"accuracy": run()})["accuracy"]  # type: ignore[misc]
                if value is not None:
                    row.scores.setdefault(name, []).append(value)

    def cost(self, systems: Sequence[System], rows: Sequence[Row]) -> None:
        """CPU time and memory by length: rounds over all systems, medians of them."""
        rounds = 1 if self.options.smoke else self.options.rounds
        for length in self.lengths:
            samples: list[list[dict[str, float]]] = [[] for _ in systems]
            for turn in range(rounds):
                for system, found in zip(systems, samples, strict=True):
                    key = f"cost {length} {turn} {system.key(self.sizes)}"
                    run = functools.partial(
                        cost.run, system.fields(self.sizes), length, rounds, LIMIT_S
                    )
                    found.append(self.store.get(key, run))
            for row, found in zip(rows, samples, strict=True):
                known = [sample for sample in found if sample]
                row.costs[length] = {
                    name: statistics.median(sample[name] for sample in known)
                    for name in (("us", "bytes") if known else ())
                }
            progress(f"cost at {length} tokens")

    def updates(self) -> int:
        """Updates that the plain encoder does in the budget."""
        if self.options.updates is not None:
            return int(self.options.updates)
        if self.options.smoke:
            return SOME
        fields = System(PLAIN, {"mixer": PLAIN}).fields(self.sizes)

        def measure() -> dict[str, float]:
            seconds: list[float] = []
            for count in (SOME, SOME, MORE):  # the first one fills the caches
                output = self.training.work / f"pace-{len(seconds)}"
                command = self.training.command(fields, output, count, 0)
                seconds.append(quality.cpu_of(command))
            return {"seconds": (seconds[2] - seconds[1]) / (MORE - SOME)}

        key = f"pace {json.dumps(fields, sort_keys=True)}"
        seconds: float = self.store.get(key, measure)["seconds"]
        budget: float = 60 * self.options.minutes
        return max(SOME, round(budget / max(seconds, 1e-3)))

    def quality(
        self, system: System, row: Row, updates: int, training: quality.Training, prefix: str = ""
    ) -> None:
        """Scores of the trained model, a model each seed.

        Args:
            system: The system.
            row: Its row.
            updates: Number of them.
            training: What it is trained on.
            prefix: Of the names of scores and results.
        """
        sts = sorted(self.options.sts.glob("*.tsv")) if self.options.sts else []
        pairs = []
        if self.options.pairs is not None:
            pairs = [json.loads(line) for line in self.options.pairs.read_text().splitlines()]
        times = []
        for seed in self.seeds:
            fields = system.fields(self.sizes)
            run = functools.partial(
                quality.train, training, prefix + system.slug, fields, updates, seed
            )
            key = f"{prefix}{updates} {seed} {system.key(self.sizes)}"
            found = self.store.get(f"train {key}", run)
            directory = Path(found["directory"])
            judge = functools.partial(quality.score, directory, sts, pairs)
            scored = self.store.get(f"score {len(sts)} {len(pairs)} {key}", judge)
            times.append(found["cpu_s"])
            for name, value in {**found, **scored}.items():
                if prefix + name in SCORES:
                    row.scores.setdefault(prefix + name, []).append(value)
        if not prefix:
            row.train_s = statistics.mean(times)
        progress(f"{system.name} trained")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the report; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    systems, phases = all_systems(), options.phases.split(",")
    if options.systems:
        wanted = options.systems.split(",")
        if unknown := set(wanted) - {system.name for system in systems}:
            known = ", ".join(system.name for system in systems)
            parser.error(f"systems are {known}; got {', '.join(sorted(unknown))}")
        systems = [system for system in systems if system.name in wanted]
    if unknown := set(phases) - set(PHASES):
        parser.error(f"phases are {', '.join(PHASES)}, got {', '.join(sorted(unknown))}")
    if options.updates is not None and options.updates < 1:
        parser.error(f"--updates must be at least 1, got {options.updates}")
    if "quality" in phases and not (options.texts and options.held_out):
        parser.error("the phase quality needs --texts and --held-out")
    if "contrastive" in phases and not (options.train_pairs and options.updates):
        parser.error("the phase contrastive needs --train-pairs and --updates")
    if "contrastive" in phases and not (options.pairs or options.sts):
        parser.error("the phase contrastive is scored on --pairs or --sts, and there are none")
    try:
        if options.output is not None:
            require_matplotlib()
    except PlotsMissing as error:
        parser.error(str(error))
    comparison = Comparison(options)
    try:
        check_inputs(comparison.store.file.parent / "inputs.json", options)
    except ValueError as error:
        parser.error(str(error))
    rows = [Row(system.name, system.parameters(comparison.sizes)) for system in systems]
    for system, row in zip(systems, rows, strict=True) if "start" in phases else ():
        comparison.start(system, row)
        progress(f"{system.name} started")
    if "cost" in phases:
        comparison.cost(systems, rows)
    updates = comparison.updates() if "quality" in phases else 0
    for system, row in zip(systems, rows, strict=True) if updates else ():
        comparison.quality(system, row, updates, comparison.training)
    for system, row in zip(systems, rows, strict=True) if "contrastive" in phases else ():
        comparison.quality(system, row, options.updates, comparison.contrastive, CONTRASTIVE)
    facts = {**read_machine("cpu"), "threads": "1", "seeds": options.seeds}
    if updates:
        given = options.smoke or options.updates is not None
        budget = "" if given else f", {options.minutes:g} CPU minutes of the plain encoder"
        facts["training"] = f"{updates} updates of {comparison.training.batch} texts{budget}"
    if "contrastive" in phases:
        facts["on pairs"] = f"{options.updates} updates of {comparison.training.batch} pairs"
    stem = f"systems_{facts['hardware']}"
    plots = []
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        score = "sts" if options.sts else "cosine"
        plots = write_plots(rows, score, comparison.lengths[0], stem, options.output)
    measured = render(rows, comparison.lengths, facts, plots)
    print(measured)
    if options.output is not None:
        write_measured(options.output / f"{stem}.md", TITLE, measured)
        (options.output / f"{stem}.json").write_text(to_json(rows, facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
