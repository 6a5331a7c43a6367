"""Plots of the forward pass, by length: time a token, and ratios to osa."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kernels.speed import Speed

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLORS = {
    "osa": "#c1272d",
    "osa_gram": "#f0a36b",
    "osa_qr": "#8c8c8c",
    "sdpa-flash": "#1f5fa8",
    "sdpa-efficient": "#3f9c9c",
    "sdpa-cudnn": "#5b3f9c",
    "sdpa-math": "#9dbbe0",
}
Value = Callable[[Speed, str], float]


class PlotsMissing(RuntimeError):
    """matplotlib is not installed."""


def require_matplotlib() -> None:
    """Make sure that plots can be drawn, before hours of measuring.

    Raises:
        PlotsMissing: Saying how to install it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise PlotsMissing(
            "plots need matplotlib: pip install -e '.[bench]', or leave them out by --no-plots"
        ) from error
    matplotlib.use("Agg")


def series(
    speeds: Sequence[Speed], head_dim: int, dtype: str, name: str, value: Value
) -> tuple[list[int], list[float]]:
    """Lengths and values of one line: padded cases, the fuller batch where a length comes twice."""
    points: dict[int, tuple[int, float]] = {}
    for speed in speeds:
        case = speed.case
        if (case.head_dim, case.dtype, case.layout) != (head_dim, dtype, "padded"):
            continue
        if name in speed.warm and case.tokens >= points.get(case.length, (0, 0.0))[0]:
            points[case.length] = (case.tokens, value(speed, name))
    lengths = sorted(points)
    return lengths, [points[length][1] for length in lengths]


def draw(
    speeds: Sequence[Speed], file: Path, value: Value, label: str, names: Sequence[str]
) -> None:
    """Write one plot with a panel for every head width and type."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "osa"  # the same numbers give the same file
    widths = sorted({speed.case.head_dim for speed in speeds})
    dtypes = list(dict.fromkeys(speed.case.dtype for speed in speeds))
    figure = Figure(figsize=(4.2 * len(widths), 3.4 * len(dtypes)), layout="constrained")
    panels = figure.subplots(len(dtypes), len(widths), squeeze=False, sharey="row")
    for row, dtype in enumerate(dtypes):
        for column, width in enumerate(widths):
            panel: Axes = panels[row][column]
            for name in names:
                lengths, values = series(speeds, width, dtype, name, value)
                if lengths:
                    panel.plot(
                        lengths, values, marker="o", markersize=3, color=COLORS[name], label=name
                    )
            panel.set_xscale("log", base=2)
            panel.set(yscale="log", title=f"d = {width}, {dtype}", xlabel="tokens")
            panel.xaxis.set_major_formatter(lambda place, _: f"{place:.0f}")
            panel.grid(True, which="major", linewidth=0.4)
            if column == 0:
                panel.set_ylabel(label)
    handles: dict[str, Artist] = {}
    for panel in figure.axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=7)
    figure.savefig(file, metadata={"Date": None})


def write_plots(speeds: Sequence[Speed], directory: Path, stem: str) -> list[Path]:
    """Write both plots and return their places."""
    names = [name for name in COLORS if any(name in speed.warm for speed in speeds)]
    time, ratio = (directory / f"{stem}_{kind}.svg" for kind in ("time", "ratio"))
    draw(
        speeds,
        time,
        lambda speed, name: speed.per_token(name, speed.warm) * 1e9,
        "time [ns/token]",
        names,
    )
    draw(
        speeds,
        ratio,
        lambda speed, name: speed.ratio(name, speed.warm),
        "time / time of osa",
        names,
    )
    return [time, ratio]
