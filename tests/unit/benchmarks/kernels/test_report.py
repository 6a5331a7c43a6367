"""The report of the kernel benchmark."""

from __future__ import annotations

import json

from benchmarks.kernels.parity import Parity
from benchmarks.kernels.report import render, render_parity, to_json
from tests.unit.benchmarks.kernels.conftest import CASE, make_results


def test_the_report_says_ratios_and_why_numbers_are_missing() -> None:
    text = render(make_results(), lambda case: "torch", plots=True)
    assert "| d32-n8-float32 | 2.00 | 2.00 | 4.00 | - | 2.00 | - |" in text
    assert "| d32-n32768-float32 | - | - |" in text
    assert "- osa_qr: over 2048 tokens (d32-n8-float32)" in text
    assert "- sdpa-flash: 25 s a run, over 20 s (d32-n32768-float32)" in text
    assert "| d32-n8-float32 | 3.00 | 2.00 | 4.50 | 3.00 | sdpa-flash |" in text
    assert "| 8 | 5.0% | 5.0% | 0.25 |" in text
    assert "![" not in render(make_results(), lambda case: "torch", plots=False)
    widths = {line.count("|") for line in text.split("## Warm")[1].split("![")[0].splitlines()[2:]}
    assert len(widths - {0}) == 1


def test_red_errors_are_named() -> None:
    results = make_results()
    results.parity = [Parity(CASE, 0.5, {"osa": float("nan"), "osa_qr": 1.0}, frozenset({"osa"}))]
    results.gradient_errors = {CASE: 1.0}
    text = render_parity(results, lambda case: "torch")
    assert "RED: osa |" in text
    assert "osa_qr |" not in text.split("RED")[1]
    assert text.count("RED") == 2


def test_the_numbers_are_json() -> None:
    content = json.loads(to_json(make_results()))
    assert content["speed"][0]["peer"] == "sdpa-flash"
    assert content["speed"][0]["case"]["name"] == "d32-n8-float32"
    assert content["speed"][0]["cold"]["osa"]["faults"] == 7.0
    assert content["encoder"][0]["length"] == 8
