"""The grid of compared encoders."""

from __future__ import annotations

import dataclasses

from benchmarks.quality.skipless.grid import grid, starts
from tests.unit.benchmarks.quality.skipless.conftest import CELL


def test_cells_have_names_of_their_own() -> None:
    cells = [*grid("mnist", (6, 12), ("skip", "neither")), *starts("mnist", 24)]
    assert len({cell.name for cell in cells}) == len(cells)
    assert CELL.name == "digits/osa-paper/neither/1"
    assert dataclasses.replace(CELL, alpha=0.2).name.endswith("/alpha=0.2")
