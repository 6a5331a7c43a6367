"""Markdown tables."""

from __future__ import annotations

import math

from benchmarks.common import tables


def test_a_table_is_markdown() -> None:
    text = tables.table(["a", "b"], [["1", "2"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_missing_number_is_a_dash() -> None:
    assert [tables.number(value, ".1f") for value in (None, math.nan, 1.25)] == ["-", "-", "1.2"]
    assert tables.number(1.234) == "1.23"
