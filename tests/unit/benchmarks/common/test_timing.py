"""Timing: rounds and medians; no test asserts a time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest

from benchmarks.common.timing import (
    Sample,
    Task,
    calls_for,
    clock_cpu,
    interleave,
    median_cpu_s,
    rotated,
    rounds_for,
    summarize,
)


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


def test_cpu_time_is_measured_after_one_warm_up_call() -> None:
    log: list[str] = []
    runs = {name: functools.partial(log.append, name) for name in "ab"}
    assert median_cpu_s(runs, 2).keys() == {"a", "b"}
    assert "".join(log) == "ababba"
