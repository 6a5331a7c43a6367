"""What all plots share: the optional dependency, one legend a figure, reproducible SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.requirements import is_installed

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


class PlotsMissing(RuntimeError):
    """matplotlib is not installed."""


def require_matplotlib() -> None:
    """Check that plots can be drawn, before a long measurement starts.

    Raises:
        PlotsMissing: matplotlib is not installed; the message says how to install it.
    """
    if not is_installed("matplotlib"):
        raise PlotsMissing("plots need matplotlib: pip install -e '.[bench]'")


def share_legend(figure: Figure, columns: int) -> None:
    """Add one legend below all panels; each label appears once."""
    handles: dict[str, Artist] = {}
    for panel in figure.axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def save_svg(figure: Figure, file: Path) -> None:
    """Write a figure; equal data give an identical file."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "osa"}):
        figure.savefig(file, metadata={"Date": None})
