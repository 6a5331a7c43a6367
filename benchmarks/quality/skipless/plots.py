"""Plots of accuracy, conditioning, gradients, rank and loss: colour by mixer, dash by wiring."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.plots import save_svg, share_legend
from benchmarks.quality.skipless.report import MAX_CONDITION, Report
from benchmarks.quality.skipless.results import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"osa-paper": "#c1272d", "osa-length": "#f0a36b", "softmax": "#1f5fa8"}
DASHES = {"skip+norm": ":", "neither": "-"}
Line = tuple[Sequence[float], Sequence[float]]


def label(summary: Summary) -> str:
    """Label of a line."""
    return f"{summary.cell.mixer}, {summary.cell.wiring}"


def shown(report: Report, task: str) -> list[Summary]:
    """Cells that are plotted: with both skips and norms, or with neither."""
    return [summary for summary in report.of_task(task) if summary.cell.wiring in DASHES]


def deepest(summaries: Sequence[Summary]) -> list[Summary]:
    """Cells of the largest depth among the depths that have the most cells."""
    counts = Counter(summary.cell.depth for summary in summaries)
    full = [depth for depth, count in counts.items() if count == max(counts.values())]
    return [summary for summary in summaries if summary.cell.depth == max(full, default=0)]


def draw_depths(
    panel: Axes, summaries: Sequence[Summary], value: Callable[[Summary], float], bars: bool = False
) -> None:
    """Plot a value by depth, one line per mixer and wiring.

    Args:
        panel: Axes to draw on.
        summaries: Cells.
        value: From a cell to the plotted value.
        bars: Whether to draw the standard deviation of the accuracy as error bars [%].
    """
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
    """Plot one line per cell.

    Args:
        panel: Axes to draw on.
        summaries: Cells.
        line: From a cell to its horizontal and vertical values.
        xlabel: Label of the horizontal axis.
    """
    for summary in summaries:
        xs, ys = line(summary)
        cell = summary.cell
        panel.plot(
            xs, ys, color=COLORS[cell.mixer], linestyle=DASHES[cell.wiring],
            label=label(summary), marker="o", markersize=2,
        )  # fmt: skip
    panel.set_xlabel(xlabel)


def condition(summary: Summary, step: int) -> float:
    """Condition number after ``step`` updates, clipped to ``MAX_CONDITION``."""
    return min(summary.condition(step), MAX_CONDITION)


def conditions(summary: Summary) -> Line:
    """Updates, and condition numbers after them."""
    steps = sorted(int(step) for step in (summary.probed or {}).get("jacobian", {}))
    return steps, [condition(summary, step) for step in steps]


def gradients(summary: Summary) -> Line:
    """Updates, and gradient norms of the first block over those of the last."""
    ratios = summary.gradient_ratios()
    return summary.results[0]["curve"]["step"][: len(ratios)], ratios


def losses(summary: Summary) -> Line:
    """Updates, and training losses, means over seeds."""
    curves = [result["curve"] for result in summary.results]
    length = min(len(curve["step"]) for curve in curves)
    means = [sum(curve["loss"][row] for curve in curves) / len(curves) for row in range(length)]
    return curves[0]["step"][:length], means


def ranks(summary: Summary, step: int) -> Line:
    """Numbers of blocks, and effective rank of the tokens after them."""
    values = summary.layer("effective_rank", step)
    return range(len(values)), values


def write_plots(report: Report, directory: Path) -> list[Path]:
    """Write all plots into ``directory``, a row of panels per task; returns their paths."""
    from matplotlib.figure import Figure

    tasks = report.tasks
    last = report.recipe.steps
    files: list[Path] = []

    def sheet(kind: str, columns: int) -> tuple[Figure, list[list[Axes]]]:
        figure = Figure(figsize=(4.2 * columns, 3.2 * len(tasks)), layout="constrained")
        panels = figure.subplots(len(tasks), columns, squeeze=False)
        files.append(directory / f"{report.stem}_{kind}.svg")
        return figure, [list(row) for row in panels]

    def finish(figure: Figure) -> None:
        for panel in figure.axes:
            panel.grid(True, which="major", linewidth=0.4)
        share_legend(figure, columns=3)
        save_svg(figure, files[-1])

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
