"""Plots: accuracy, conditioning, gradients, rank and loss; mixers by colour, wirings by dash."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.quality.skipless.report import TELLABLE, Report
from benchmarks.quality.skipless.results import Summary

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"osa-paper": "#c1272d", "osa-length": "#f0a36b", "softmax": "#1f5fa8"}
DASHES = {"skip+norm": ":", "neither": "-"}
Line = tuple[Sequence[float], Sequence[float]]


def label(summary: Summary) -> str:
    """Name of a line."""
    return f"{summary.cell.mixer}, {summary.cell.wiring}"


def shown(report: Report, task: str) -> list[Summary]:
    """Cells with a line: both extreme wirings."""
    return [summary for summary in report.of_task(task) if summary.cell.wiring in DASHES]


def deepest(summaries: Sequence[Summary]) -> list[Summary]:
    """Cells of the largest depth that has as many as any other."""
    counts = Counter(summary.cell.depth for summary in summaries)
    full = [depth for depth, count in counts.items() if count == max(counts.values())]
    return [summary for summary in summaries if summary.cell.depth == max(full, default=0)]


def draw_depths(
    panel: Axes, summaries: Sequence[Summary], value: Callable[[Summary], float], bars: bool = False
) -> None:
    """A value by depth, a line for each mixer and wiring."""
    lines: dict[str, list[Summary]] = {}
    for summary in summaries:
        lines.setdefault(label(summary), []).append(summary)
    for name, points in lines.items():
        points.sort(key=lambda summary: summary.cell.depth)
        cell = points[0].cell
        panel.errorbar(
            [point.cell.depth for point in points],
            [value(point) for point in points],
            yerr=[100 * point.spread for point in points] if bars else None,
            color=COLORS[cell.mixer], linestyle=DASHES[cell.wiring], label=name,
            marker="o", markersize=3, capsize=2,
        )  # fmt: skip
    panel.set_xlabel("blocks")
    panel.set_xticks(sorted({summary.cell.depth for summary in summaries}))


def draw_lines(
    panel: Axes, summaries: Sequence[Summary], line: Callable[[Summary], Line], xlabel: str
) -> None:
    """One line a cell."""
    for summary in summaries:
        places, values = line(summary)
        cell = summary.cell
        panel.plot(
            places, values, color=COLORS[cell.mixer], linestyle=DASHES[cell.wiring],
            label=label(summary), marker="o", markersize=2,
        )  # fmt: skip
    panel.set_xlabel(xlabel)


def condition(summary: Summary, step: int) -> float:
    """Condition number at one update, up to what float64 can tell."""
    return min(summary.condition(step), TELLABLE)


def conditions(summary: Summary) -> Line:
    """Condition number by update."""
    steps = sorted(int(step) for step in (summary.probed or {}).get("jacobian", {}))
    return steps, [condition(summary, step) for step in steps]


def gradients(summary: Summary) -> Line:
    """First over last block's gradient by update."""
    ratios = summary.gradient_ratios()
    return summary.results[0]["curve"]["step"][: len(ratios)], ratios


def losses(summary: Summary) -> Line:
    """Mean loss over seeds by update."""
    curves = [result["curve"] for result in summary.results]
    length = min(len(curve["step"]) for curve in curves)
    means = [sum(curve["loss"][at] for curve in curves) / len(curves) for at in range(length)]
    return curves[0]["step"][:length], means


def ranks(summary: Summary, step: int) -> Line:
    """Effective rank by block."""
    values = summary.layer("effective_rank", step)
    return range(len(values)), values


def write_plots(report: Report, directory: Path) -> list[Path]:
    """Write every plot and return their places; a row of panels for each task."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "osa"  # the same numbers give the same file
    tasks = report.tasks
    last = report.recipe.steps
    files: list[Path] = []

    def sheet(kind: str, columns: int) -> tuple[Figure, list[list[Axes]]]:
        figure = Figure(figsize=(4.2 * columns, 3.2 * len(tasks)), layout="constrained")
        panels = figure.subplots(len(tasks), columns, squeeze=False)
        files.append(directory / f"{report.stem}_{kind}.svg")
        return figure, [list(row) for row in panels]

    def finish(figure: Figure) -> None:
        handles: dict[str, Artist] = {}
        for panel in figure.axes:
            panel.grid(True, which="major", linewidth=0.4)
            for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)
        figure.savefig(files[-1], metadata={"Date": None})

    figure, panels = sheet("accuracy", 1)
    for task, (panel,) in zip(tasks, panels, strict=True):
        draw_depths(panel, shown(report, task), lambda one: 100 * one.mean, bars=True)
        panel.set(title=task, ylabel="test accuracy [%]")
    finish(figure)

    figure, panels = sheet("condition", 3)
    for task, row in zip(tasks, panels, strict=True):
        cells = [summary for summary in shown(report, task) if summary.probed is not None]
        for panel, step, when in zip(row, (0, last), ("at the start", "trained"), strict=False):
            draw_depths(panel, cells, functools.partial(condition, step=step))
            panel.set(title=f"{task}, {when}", yscale="log", ylabel="condition number")
        deep = deepest(cells) if cells else []
        draw_lines(row[2], deep, conditions, "updates")
        depth = deep[0].cell.depth if deep else 0
        row[2].set(title=f"{task}, {depth} blocks", yscale="log", ylabel="condition number")
    finish(figure)

    for kind, line, title in (
        ("gradient", gradients, "gradient, first block / last"),
        ("loss", losses, "training loss"),
    ):
        figure, panels = sheet(kind, 2)
        for task, row in zip(tasks, panels, strict=True):
            cells = shown(report, task)
            least = min(summary.cell.depth for summary in cells)
            shallow = [summary for summary in cells if summary.cell.depth == least]
            for panel, chosen in zip(row, (shallow, deepest(cells)), strict=True):
                draw_lines(panel, chosen, line, "updates")
                panel.set(title=f"{task}, {chosen[0].cell.depth} blocks", ylabel=title)
                panel.set_yscale("log" if kind == "gradient" else "linear")
        finish(figure)

    figure, panels = sheet("rank", 2)
    for task, row in zip(tasks, panels, strict=True):
        cells = deepest([summary for summary in shown(report, task) if summary.probed is not None])
        for panel, step, when in zip(row, (0, last), ("at the start", "trained"), strict=True):
            draw_lines(panel, cells, functools.partial(ranks, step=step), "blocks passed")
            panel.set(title=f"{task}, {when}", ylabel="effective rank of 16 tokens", ylim=(0, 16))
    finish(figure)
    return files
