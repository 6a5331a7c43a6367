"""Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "-"


def number(value: float | None, form: str = ".2f") -> str:
    """The formatted value; a dash for None and NaN."""
    return MISSING if value is None or math.isnan(value) else format(value, form)


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def heading(cells: Sequence[str]) -> str:
    """The first two lines of a table: column names and the rule below them."""
    return f"{row(cells)}\n{row(['---'] * len(cells))}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A whole table."""
    return "\n".join([heading(headers), *map(row, rows)])
