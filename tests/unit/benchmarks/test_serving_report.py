"""What is made of the figures: medians, ratios, tables, demands."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from benchmarks.serving import overhead, overload, soak
from benchmarks.serving.__main__ import write_report
from benchmarks.serving.measures import Cost, Goodput
from benchmarks.serving.plan import Effort, Visit
from benchmarks.serving.report import number, render, table
from benchmarks.serving.results import About, Results


def make_visit(cpu_ms: float, whole: bool = False) -> Visit:
    costs = {
        length: Cost(scale * cpu_ms, 100 / scale, 10.0, 20.0, 30.0, {"right": 50})
        for length, scale in ((32, 1), (202, 6))
    }
    found = Visit(4.0, 6.0, costs, error=1e-3)
    if whole:
        found.costs[0] = dataclasses.replace(found.costs[32], cpu_ms=2.5)
        found.capacity, found.idle, found.changed_bits = 50.0, 0.004, (3, 64)
        found.abandoned = {32: 0.08, 202: 0.5}
        found.goodputs = [make_goodput(fraction) for fraction in (0.3, 0.6, 0.9, 1.2)]
    return found


def make_goodput(fraction: float, **changes: object) -> Goodput:
    good = Goodput(
        fraction, 50 * fraction, min(45.0, 50 * fraction), 5.0, 7.0, 9.0,
        {"right": 90, "refused": 10}, {"200": 90, "429": 10}, 0,
    )  # fmt: skip
    return dataclasses.replace(good, **changes)  # type: ignore[arg-type]


@pytest.fixture
def results() -> Results:
    found = Results({"hardware": "cpu-x", "commit": "abc"}, "python -m benchmarks.serving", 3)
    for name, times in {"osa": (2.0, 6.0, 3.0), "mosec": (8.0, 12.0, 4.0)}.items():
        family = "osa" if name == "osa" else "minilm"
        found.about[name] = About(family, "float32", "as it comes", {"torch": "2.13"})
        found.visits[name] = [make_visit(cpu, turn == 0) for turn, cpu in enumerate(times)]
    found.unavailable["vllm"] = "no wheel\nfor this"
    return found


def test_a_ratio_is_the_median_over_rounds_and_not_of_medians(results: Results) -> None:
    assert results.cost_ratio("osa", "mosec", 32) == 0.5  # of 0.25, 0.5, 0.75
    assert results.median("osa", lambda one: one.costs[32].cpu_ms) == 3.0
    assert math.isnan(results.cost_ratio("osa", "nobody", 32))


def test_a_round_that_failed_does_not_spoil_the_others(results: Results) -> None:
    lost = dataclasses.replace(results.visits["mosec"][1].costs[32], cpu_ms=math.nan)
    results.visits["mosec"][1].costs[32] = lost
    assert results.cost_ratio("osa", "mosec", 32) == 0.5  # of 0.25 and 0.75
    assert results.median("mosec", lambda one: one.costs[32].cpu_ms) == 6.0


def test_results_come_back_from_disk_as_they_were(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.json"
    results.save(path)
    assert Results.load(path) == results
    assert [one.name for one in path.parent.iterdir()] == ["run.json"]
    json.loads(path.read_text())


def test_the_report_shows_figures_ratios_and_who_is_missing(results: Results) -> None:
    results.visits["mosec"][0].notes.append("goodputs: the server was still busy after 120 s")
    text = render(results, Effort(), "osa")
    assert "| osa | 3.00 | 1.00 | 100 | 18.00 | 1.00 | 17 |" in text
    assert "| mosec | 8.00 | 0.50 | 100 | 48.00 | 0.50 | 17 |" in text
    assert "| osa | 50 | 2.50 | 30% (9) | 60% (9) | 90% (9) | 90% (9) | 10% |" in text
    assert "| mosec | 8% | 50% | 3 of 64 | 0.4% | 4.0 | - | - | 1e-03 |" in text
    assert "- vllm: no wheel for this" in text
    assert "mosec, round 1: goodputs: the server was still busy" in text
    assert "nan" not in text


def test_the_best_peer_is_the_cheapest_of_its_type(results: Results) -> None:
    for name, dtype, cpu_ms in (("slow", "float32", 9.0), ("narrow", "bfloat16", 1.5)):
        results.about[name] = About("minilm", dtype, "", {})
        results.visits[name] = [make_visit(cpu_ms)] * 3
    text = render(results, Effort(), "osa")
    assert "| osa | float32 | 0.50 (mosec) | 0.50 (mosec) |" in text
    assert "| osa | bfloat16 | 2.00 (narrow) | 2.00 (narrow) |" in text


def test_answers_that_were_not_right_are_told(results: Results) -> None:
    results.visits["osa"][2].costs[32].verdicts["wrong"] = 2
    assert "osa, round 3: in closed loops {'wrong': 2}" in render(results, Effort(), "osa")


def test_words_above_the_first_fact_stay(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_report(results, Effort(), "osa", path)
    path.write_text(path.read_text().replace("# Servers under load\n", "# Mine\n\nMy words.\n"))
    results.visits["osa"].append(make_visit(2.0))
    write_report(results, Effort(), "osa", path)
    text = path.read_text()
    assert text.startswith("# Mine\n\nMy words.\n")
    assert "| osa | 2.50 |" in text
    assert text.count("- hardware:") == 1


def test_a_figure_that_is_missing_is_a_dash() -> None:
    assert [number(value, ".1f") for value in (None, math.nan, 1.25)] == ["-", "-", "1.2"]
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_histograms_are_read_over_all_labels() -> None:
    text = (
        "# TYPE sizes histogram\n"
        'sizes_bucket{model="a",le="+Inf"} 2.0\nsizes_sum{model="a"} 30.0\n'
        'sizes_count{model="a"} 2.0\nsizes_sum{model="b"} 2.0\nsizes_count{model="b"} 1.0\n'
    )
    assert overhead.histogram(text, "sizes") == (32.0, 3.0)


def test_overhead_is_told_by_length() -> None:
    samples = [
        {length: overhead.Sample(5.0 + turn, 4.0, 0.8, 0.1, 16.0) for length in (32, 202)}
        for turn in range(3)
    ]
    assert "| 32 | 6.00 | 4.00 | 16.00 | 2.00 | 0.80 | 0.10 |" in overhead.render(samples)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, None),
        ({"statuses": {"200": 90, "500": 1}}, "no 5xx"),
        ({"verdicts": {"right": 90, "lost": 1}}, "no wrong, failed or lost answer"),
        ({"silent_refusals": 1}, "429 with Retry-After"),
        ({"verdicts": {"right": 90, "late": 1}}, "accepted requests within their deadline"),
        ({"good": 42.0}, "goodput at least 95% of that at 90 %"),
    ],
)
def test_each_demand_of_overload_can_fail(changes: dict[str, object], broken: str | None) -> None:
    normal, over = make_goodput(0.9), make_goodput(1.2, **changes)
    failed = [name for name, held in overload.demands(normal, over).items() if not held]
    assert failed == ([] if broken is None else [broken])
    assert ("NO" in overload.render(normal, over)) is (broken is not None)


def test_growth_is_what_comes_after_warming_up() -> None:
    warming = [50.0, 80.0, 95.0, 99.0]
    assert soak.growth(warming + [100.0] * 16) == 0
    assert soak.growth(warming + [100.0 + step for step in range(16)]) == pytest.approx(
        0.118, abs=0.002
    )
    with pytest.raises(ValueError, match="too few"):
        soak.growth([1.0, 2.0, 3.0])


def test_errors_are_all_that_is_not_right() -> None:
    assert soak.errors(make_goodput(0.8)) == 10
    assert soak.errors(make_goodput(0.8, verdicts={"right": 3})) == 0
