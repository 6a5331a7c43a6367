"""Results of a run."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.serving.harness.measurements import Cost, Goodput
from benchmarks.serving.harness.plan import RoundResult
from benchmarks.serving.harness.results import Results, ServerFacts


def make_round(cpu_ms: float, whole: bool = False) -> RoundResult:
    costs = {
        length: Cost(scale * cpu_ms, 100 / scale, 10.0, 20.0, 30.0, {"right": 50})
        for length, scale in ((32, 1), (202, 6))
    }
    found = RoundResult(4.0, 6.0, costs, error=1e-3)
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
        found.servers[name] = ServerFacts(family, "float32", "as it comes", {"torch": "2.13"})
        found.by_server[name] = [make_round(cpu, turn == 0) for turn, cpu in enumerate(times)]
    found.unavailable["vllm"] = "no wheel\nfor this"
    return found
