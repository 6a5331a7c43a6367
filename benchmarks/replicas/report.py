"""The report: tables in Markdown, and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.plots import save_svg, share_legend
from benchmarks.common.tables import number, table
from benchmarks.replicas.experiments import SHARES, Row
from benchmarks.replicas.simulation import World

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTCOMES = ("p50 [s]", "p99 [s]", "late or refused", "refused", "pods at most", "cost")
EXPLAINED = (
    "p50 and p99 are from sending to answer, over the whole run. *Late* takes longer than "
    "{late:g} s or is refused (429). *Cost* is the time that pods exist over the time that the "
    "same tokens take one pod in large batches: 1 is the least there can be."
)


def outcome_cells(row: Row, late_s: float) -> list[str]:
    """Cells of a row."""
    found = row.outcome
    count = max(1, len(found.latencies) + found.refused)
    return [
        *row.labels,
        number(found.quantile(0.5), ".3f"),
        number(found.quantile(0.99), ".2f"),
        f"{100 * found.late(late_s):.2f} %",
        f"{100 * found.refused / count:.2f} %",
        str(found.most),
        number(found.cost, ".2f"),
    ]


def section(title: str, labels: Sequence[str], rows: Sequence[Row], late_s: float) -> str:
    """A section with a table.

    Args:
        title: Its heading.
        labels: Names of the first columns.
        rows: Runs.
        late_s: A request is late that takes longer [s].
    """
    cells = [outcome_cells(row, late_s) for row in rows]
    return f"## {title}\n\n{table([*labels, *OUTCOMES], cells)}\n"


def explain(world: World) -> str:
    """What the columns mean."""
    return EXPLAINED.format(late=world.late_s)


def plot_fixed(rows: Sequence[Row], file: Path) -> None:
    """p99 over the number of pods, a line for each use, a panel for each routing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for panel, (routing, title) in zip(
        panels, (("random", "any pod"), ("two", "the shorter of two queues")), strict=True
    ):
        for share in (f"{one:.0%}" for one in SHARES):
            own = [row for row in rows if row.labels[1:] == (share, routing)]
            panel.plot(
                [int(row.labels[0]) for row in own],
                [row.outcome.quantile(0.99) for row in own],
                marker="o",
                markersize=3,
                label=f"pods {share} busy",
            )
        panel.set(xscale="log", yscale="log", xlabel="pods", title=title)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("p99 [s]")
    share_legend(figure, len(SHARES))
    save_svg(figure, file)


def plot_traces(rows: Sequence[Row], file: Path) -> None:
    """Pods and queued work over time: a column for each load, a line for each signal."""
    from matplotlib.figure import Figure

    loads = list(dict.fromkeys(row.labels[0] for row in rows))
    figure = Figure(figsize=(3.2 * len(loads), 5.0), layout="constrained")
    panels = figure.subplots(2, len(loads), sharex="col", squeeze=False)
    for place, load in enumerate(loads):
        for row in rows:
            if row.labels[0] != load:
                continue
            at, pods, backlog = zip(*row.outcome.trace, strict=True)
            panels[0][place].plot(at, pods, label=row.labels[1], linewidth=1)
            a_pod = [work / max(1, count) for work, count in zip(backlog, pods, strict=True)]
            panels[1][place].plot(at, a_pod, label=row.labels[1], linewidth=1)
        panels[0][place].set_title(load)
        panels[1][place].set(yscale="symlog", xlabel="time [s]")
        panels[1][place].set_yscale("symlog", linthresh=0.1)
        for panel in (panels[0][place], panels[1][place]):
            panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("pods")
    panels[1][0].set_ylabel("backlog of a pod [s]")
    share_legend(figure, 4)
    save_svg(figure, file)
