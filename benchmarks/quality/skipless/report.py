"""The report: Markdown for readers, JSON with every number; pure functions of the results."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.common.report import fact_list
from benchmarks.common.tables import MISSING, number, table
from benchmarks.quality.skipless.grid import MIXERS, RATES, Cell, Recipe
from benchmarks.quality.skipless.results import Cache, Summary

COMMAND = "python -m benchmarks.quality.skipless --output benchmarks/reports"
SOURCES = {
    "mnist": "MNIST, 16 patches of 7 x 7 pixels, learned positions at the input, 10 classes",
    "glosses": "WordNet definitions, their first 16 words, rotary positions on q and k; class: the "
    "lexicographer file (45 subjects)",
    "digits": "scikit-learn's 8 x 8 digits, 16 patches of 2 x 2, learned positions, 10 classes",
}
READING = """\
Encoders of width 64, 4 heads, feed-forward 128, GELU, no dropout; mean over tokens, linear head.
All encoders have the same initialisation (`model/layers/initialization.py`: orthonormal [W_Q W_K]
per head, orthogonal W_V and W_O; without skips the mirrored feed-forward) and the same recipe:
Adam, no weight decay, {steps} updates of {batch} sequences, learning rate rising for the first
{warmup:.0%} and then falling linearly to zero, gradients clipped at {clip:g}. Learning rates, of
{rates}: the middle two, then the neighbour of the better, by validation accuracy with seed 0. Test
accuracy is on separate examples (4000; 397 of `digits`); mean and standard deviation over seeds.
The training is short: it compares how far the encoders get in it, not what they reach in the end.

`osa-paper`: c = alpha / sqrt(d); `osa-length`: c = alpha / (sqrt(d) N), as in the packaged model;
alpha starts at 0.02 in both. `skip+norm`: skips around both sub-layers, RMS norms before each, and
q and k normalised; `neither`: none of the three. `skip` and `norm` have one of the two (norms
include those of q and k)."""
FINDINGS, METHOD = "## What it says", "## What was run"
MAX_CONDITION = 1e15
"""Largest condition number that float64 can distinguish from singular."""
JACOBIAN = """\
Condition numbers are largest over smallest singular value of d(last block's output) / d(first
block's input), in float64, of one validation sequence, with seed 1 (`osa.model.diagnostics`). A
Jacobian through norms without skips is singular by construction, but for their epsilon."""
STARTS = """\
Neither skips nor norms, seed 0, each at the best of three learning rates. `orthogonal`: two
independent orthogonal feed-forward matrices in place of the mirrored pair. `unmixed`: the angle
stays zero, so that only the pooling combines tokens."""


@dataclass(frozen=True)
class Report:
    """Contents of the report.

    Attributes:
        machine: Facts by name.
        recipe: Training recipe.
        summaries: Cells by study.
        findings: Markdown about these numbers, written by hand.
    """

    machine: Mapping[str, str]
    recipe: Recipe
    summaries: Mapping[str, Sequence[Summary]]
    findings: str = ""

    @property
    def stem(self) -> str:
        """File name of the report without its suffix."""
        return f"skipless_cpu_{self.machine['date'].replace('-', '')}"

    def of_task(self, task: str) -> list[Summary]:
        """Cells of a task from all studies, without other initialisations."""
        found: dict[str, Summary] = {}
        for summaries in self.summaries.values():
            for summary in summaries:
                cell = summary.cell
                plain = Cell(cell.task, cell.mixer, cell.wiring, cell.depth)
                if cell == plain and cell.task == task:
                    found.setdefault(cell.name, summary)
        return list(found.values())

    @property
    def tasks(self) -> list[str]:
        """Tasks with results."""
        return [task for task in SOURCES if self.of_task(task)]


def percent(summary: Summary) -> str:
    """Accuracy with its standard deviation [%]."""
    spread = "" if math.isnan(summary.spread) else f" ± {100 * summary.spread:.1f}"
    return f"{100 * summary.mean:.1f}{spread}"


def power(value: float) -> str:
    """A condition number: plain below 1000, then as a power, up to ``MAX_CONDITION``."""
    if math.isnan(value):
        return MISSING
    if value > MAX_CONDITION:
        return "> 1e15"
    return f"{value:.3g}" if value < 1000 else f"{value:.0e}".replace("e+", "e")


def by_depth(summaries: Sequence[Summary], value: Callable[[Summary], str]) -> str:
    """Table of a value: a row per mixer and wiring, a column per depth."""
    depths = sorted({summary.cell.depth for summary in summaries})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for summary in summaries:
        line = lines.setdefault((summary.cell.wiring, summary.cell.mixer), {})
        line[summary.cell.depth] = value(summary)
    order = ["skip+norm", "skip", "norm", "neither"]
    rows = [
        [mixer, wiring, *(line.get(depth, MISSING) for depth in depths)]
        for (wiring, mixer), line in sorted(
            lines.items(), key=lambda item: (order.index(item[0][0]), [*MIXERS].index(item[0][1]))
        )
    ]
    return table(["mixer", "wiring", *(f"{depth} blocks" for depth in depths)], rows)


def gradient_cell(summary: Summary) -> str:
    """Ratio of gradients at the start, and its range during training."""
    ratios = summary.gradient_ratios()
    if len(ratios) < 2:
        return number(ratios[0] if ratios else math.nan, ".2g")
    return f"{ratios[0]:.2g} ({min(ratios[1:]):.2g} to {max(ratios[1:]):.2g})"


def change(value: Callable[[int], float], steps: int, form: str = ".1f") -> str:
    """A value after 0 and after ``steps`` updates."""
    return f"{number(value(0), form)}, {number(value(steps), form)}"


def last_layer(summary: Summary, name: str, step: int) -> float:
    """A statistic of the states after the last block; NaN if it was not measured."""
    values = summary.layer(name, step)
    return values[-1] if values else math.nan


def task_sections(report: Report, task: str) -> list[str]:
    """All tables of one task."""
    summaries = report.of_task(task)
    steps = report.recipe.steps
    sections = [
        f"## {task}\n\n{SOURCES[task]}.\n\nTest accuracy [%]:\n\n" + by_depth(summaries, percent),
        "Training loss at the end, and the learning rate chosen (of three tried):\n\n"
        + by_depth(summaries, lambda one: f"{one.loss:.2f} ({one.rate:g})"),
    ]
    probed = [summary for summary in summaries if summary.probed is not None]
    if not probed:
        return sections
    return [
        *sections,
        "Condition number of the Jacobian, at the start and after training:\n\n"
        + by_depth(probed, lambda one: f"{power(one.condition(0))}, {power(one.condition(steps))}"),
        "Gradient of the first block over that of the last: at the start (and from least to most "
        "in training), geometric mean over seeds:\n\n" + by_depth(summaries, gradient_cell),
        "Effective rank of the tokens after the last block (of 16), at the start and after "
        "training; 1 is collapse:\n\n"
        + by_depth(
            probed,
            lambda one: change(lambda step: last_layer(one, "effective_rank", step), steps),
        ),
        "Mean cosine between different tokens after the last block, likewise:\n\n"
        + by_depth(
            probed,
            lambda one: change(lambda step: last_layer(one, "token_cosine", step), steps, ".2f"),
        ),
    ]


def start_section(summaries: Sequence[Summary]) -> str:
    """Table of other initialisations without skips and norms."""
    rows = [
        [
            one.cell.task, str(one.cell.depth), one.cell.mixer,
            f"{one.cell.alpha:g}" if one.cell.mixer != "softmax" else MISSING,
            one.cell.activation, one.cell.start, f"{100 * one.results[0]['test']:.1f}",
            f"{one.results[0]['loss']:.2f}", f"{one.rate:g}",
        ]
        for one in summaries
    ]  # fmt: skip
    head = ["task", "blocks", "mixer", "alpha", "activation", "start", "test [%]", "loss", "rate"]
    return f"## What the start decides\n\n{STARTS}\n\n{table(head, rows)}"


def findings_of(text: str) -> str:
    """The handwritten section of a report; empty if there is none."""
    return text.partition(FINDINGS)[2].partition(METHOD)[0].strip() if METHOD in text else ""


def render(report: Report, plots: bool) -> str:
    """The whole report; ``plots`` includes the figures."""
    recipe = report.recipe
    reading = READING.format(
        steps=recipe.steps, batch=recipe.batch, warmup=recipe.warmup, clip=recipe.clip,
        rates=", ".join(f"{rate:g}" for rate in RATES),
    )  # fmt: skip
    sections = [f"# Depth without skips and norms, CPU, {report.machine['date']}"]
    sections += [f"    {COMMAND}", fact_list(report.machine)]
    sections += [FINDINGS + "\n\n" + report.findings] if report.findings else []
    sections += [METHOD, reading, JACOBIAN]
    if plots:
        sections += [f"![{kind}]({report.stem}_{kind}.svg)" for kind in PLOTS]
    for task in report.tasks:
        sections += task_sections(report, task)
    if starts := report.summaries.get("starts"):
        sections.append(start_section(starts))
    return "\n\n".join(sections) + "\n"


PLOTS = ("accuracy", "condition", "gradient", "rank", "loss")


def to_json(report: Report, cache: Cache) -> str:
    """All runs as JSON, one line each, for later comparison."""
    head = {"machine": report.machine, "recipe": dataclasses.asdict(report.recipe)}
    runs = ",\n".join(
        json.dumps(result, separators=(",", ":")) for _, result in sorted(cache.found.items())
    )
    return f'{json.dumps(head, indent=1)[:-2]},\n "runs": [\n{runs}\n]}}\n'
