"""Plots of the report: quality against cost, and cost against length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.plots import save_svg, share_legend
from benchmarks.systems.report import SCORES, Row


def write_plots(rows: Sequence[Row], score: str, length: int, stem: str, folder: Path) -> list[str]:
    """Draw both; returns their file names.

    Args:
        rows: What was measured.
        score: On the vertical axis of the first.
        length: Whose cost is on its horizontal one [tokens].
        stem: Beginning of the file names.
        folder: Where they go.
    """
    from matplotlib.figure import Figure

    written = []
    known = [row for row in rows if row.mean(score) is not None and row.costs.get(length)]
    if known:
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.subplots()
        for row in known:
            point = (row.costs[length]["us"], row.mean(score) or 0.0)
            axes.scatter(*point)
            axes.annotate(row.name, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel(f"CPU time per token at {length} tokens [us]")
        axes.set_ylabel(SCORES[score])
        written.append(f"{stem}_quality.svg")
        save_svg(figure, folder / written[-1])
    measured = [row for row in rows if any(row.costs.values())]
    if measured:
        figure = Figure(figsize=(7, 6), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(measured):
            costs = sorted((length, cost["us"]) for length, cost in row.costs.items() if cost)
            style = ("-", "--", ":")[place // 10 % 3]
            axes.plot(*zip(*costs, strict=True), style, marker="o", markersize=3, label=row.name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens of a sequence")
        axes.set_ylabel("CPU time per token [us]")
        share_legend(figure, 4)
        written.append(f"{stem}_cost.svg")
        save_svg(figure, folder / written[-1])
    return written
