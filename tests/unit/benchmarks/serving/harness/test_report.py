"""The report of a run."""

from __future__ import annotations

from benchmarks.serving.harness.plan import MeasurementPlan
from benchmarks.serving.harness.report import render
from benchmarks.serving.harness.results import Results, ServerFacts
from tests.unit.benchmarks.serving.conftest import make_round


def test_the_report_shows_figures_ratios_and_who_is_missing(results: Results) -> None:
    results.by_server["mosec"][0].notes.append("goodputs: the server was still busy after 120 s")
    text = render(results, MeasurementPlan(), "osa")
    assert "| osa | 3.00 | 1.00 | 100 | 18.00 | 1.00 | 17 |" in text
    assert "| mosec | 8.00 | 0.50 | 100 | 48.00 | 0.50 | 17 |" in text
    assert "| osa | 50 | 2.50 | 30% (9) | 60% (9) | 90% (9) | 90% (9) | 10% |" in text
    assert "| mosec | 8% | 50% | 3 of 64 | 0.4% | 4.0 | - | - | 1e-03 |" in text
    assert "- vllm: no wheel for this" in text
    assert "mosec, round 1: goodputs: the server was still busy" in text
    assert "nan" not in text


def test_the_best_peer_is_the_cheapest_of_its_type(results: Results) -> None:
    for name, dtype, cpu_ms in (("slow", "float32", 9.0), ("narrow", "bfloat16", 1.5)):
        results.servers[name] = ServerFacts("minilm", dtype, "", {})
        results.by_server[name] = [make_round(cpu_ms)] * 3
    text = render(results, MeasurementPlan(), "osa")
    assert "| osa | float32 | 0.50 (mosec) | 0.50 (mosec) |" in text
    assert "| osa | bfloat16 | 2.00 (narrow) | 2.00 (narrow) |" in text


def test_answers_that_were_not_right_are_told(results: Results) -> None:
    results.by_server["osa"][2].costs[32].verdicts["wrong"] = 2
    assert "osa, round 3: in closed loops {'wrong': 2}" in render(results, MeasurementPlan(), "osa")
