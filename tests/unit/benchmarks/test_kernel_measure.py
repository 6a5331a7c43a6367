"""Timing of the kernel benchmark: rounds, medians, ratios; nothing here asserts a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from benchmarks.kernels.cases import Case
from benchmarks.kernels.measure import (
    Sample,
    Task,
    Timing,
    calls_for,
    clock_cpu,
    interleave,
    rotated,
    rounds_for,
    summarize,
)
from benchmarks.kernels.speed import Speed, best_peer


def timing(wall_s: float, cpu_s: float = 1.0) -> Timing:
    return Timing(wall_s, cpu_s, faults=0.0, spread=0.1, samples=3)


def test_the_order_turns() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 5) == []


def test_every_task_runs_once_a_round_within_its_context() -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        log.append("(")
        yield
        log.append(")")

    tasks = {
        "a": Task(lambda: log.append("a"), context, before=lambda: log.append(".")),
        "b": Task(lambda: log.append("b"), calls=2),
    }
    times = interleave(tasks, 2, clock_cpu)
    assert "".join(log) == "(.a)bbbb(.a)"
    assert {name: found.samples for name, found in times.items()} == {"a": 2, "b": 2}


def test_medians_ignore_one_slow_moment() -> None:
    samples = [Sample(wall, 2 * wall, 10.0) for wall in (1.0, 1.0, 1.0, 1.0, 50.0)]
    found = summarize(samples)
    assert (found.wall_s, found.cpu_s, found.faults, found.samples) == (1.0, 2.0, 10.0, 5)
    assert summarize(samples[:1]).spread == 0.0


@pytest.mark.parametrize(
    ("round_s", "repeats", "rounds"), [(0.001, 9, 9), (4.0, 9, 5), (100.0, 9, 3), (100.0, 1, 1)]
)
def test_slow_cases_have_fewer_rounds(round_s: float, repeats: int, rounds: int) -> None:
    assert rounds_for(round_s, repeats, budget_s=20.0) == rounds


def test_only_short_calls_on_a_gpu_are_repeated() -> None:
    assert calls_for(1e-5, "cpu") == 1
    assert calls_for(1e-3, "cuda") == 2
    assert calls_for(1.0, "cuda") == 1
    assert calls_for(0.0, "cuda") == 50


def test_ratios_are_the_others_time_over_ours() -> None:
    warm = {"osa": timing(2.0, 4.0), "sdpa-math": timing(8.0, 8.0), "sdpa-flash": timing(6.0, 2.0)}
    speed = Speed(Case(32, 8, "float32"), warm)
    assert speed.peer == best_peer(warm) == "sdpa-flash"
    assert speed.ratio(speed.peer, warm) == 3.0
    assert speed.ratio(speed.peer, warm, cpu=True) == 0.5
    assert speed.ratio("osa_qr", warm) != speed.ratio("osa_qr", warm)  # NaN: it did not run
    assert speed.per_token("osa", warm) == 2.0 / 4096
    assert best_peer({"osa": timing(1.0)}) is None
