"""Plots of the forward pass by length: time per token, and ratios to ``osa``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.plots import save_svg, share_legend
from benchmarks.kernels.speed import Speed

if TYPE_CHECKING:
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


def series(
    speeds: Sequence[Speed], head_dim: int, dtype: str, name: str, value: Value
) -> tuple[list[int], list[float]]:
    """Lengths [tokens] and values of one line, from padded cases.

    Where a length occurs twice, the case of more tokens counts.

    Args:
        speeds: All measurements.
        head_dim: Width of a head.
        dtype: Name of the operands' type.
        name: Name of the implementation.
        value: From a measurement and a name to the plotted value.
    """
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
    """Write one plot with a panel per head width and type.

    Args:
        speeds: All measurements.
        file: SVG file to write.
        value: From a measurement and the name of an implementation to the plotted value.
        label: Label of the vertical axis.
        names: Implementations to show.
    """
    from matplotlib.figure import Figure

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
            panel.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}")
            panel.grid(True, which="major", linewidth=0.4)
            if column == 0:
                panel.set_ylabel(label)
    share_legend(figure, columns=7)
    save_svg(figure, file)


def write_plots(speeds: Sequence[Speed], directory: Path, stem: str) -> list[Path]:
    """Write both plots into ``directory``; returns their paths."""
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
