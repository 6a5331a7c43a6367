"""Requirements under attack."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.serving.hostile.acts import ACTS
from benchmarks.serving.hostile.report import Observed, render, requirements, surprises
from tests.unit.benchmarks.serving.conftest import make_goodput


def observed(**changes: object) -> Observed:
    answers = {act.name: {sorted(act.wanted)[0]: 3} for act in ACTS}
    fine = Observed(
        make_goodput(0.3, p99_ms=10.0),
        make_goodput(0.3, p99_ms=30.0, verdicts={"right": 9}, statuses={"200": 9}),
        [100e6] * 40,
        [0.01, 0.9],
        0,
        answers,
        12.0,
    )
    return dataclasses.replace(fine, **changes)  # type: ignore[arg-type]


def test_a_server_that_holds_meets_every_requirement() -> None:
    assert all(requirements(observed()).values())
    assert "NO" not in render(observed())


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"beside": make_goodput(0.3, p99_ms=31.0, verdicts={"right": 9}, statuses={})}, "p99"),
        ({"beside": make_goodput(0.3, p99_ms=9.0, verdicts={"late": 1}, statuses={})}, "in time"),
        ({"beside": make_goodput(0.3, verdicts={"right": 1}, statuses={"503": 1})}, "no 5xx"),
        ({"memory": [100e6] * 20 + [120e6] * 20}, "memory"),
        ({"livez_s": [0.01, 1.2]}, "/livez"),
        ({"livez_failures": 1}, "/livez"),
        ({"ended_s": None}, "SIGTERM"),
        ({"ended_s": 40.0}, "SIGTERM"),
        ({"answers": {"half-closed": {"500": 1}}}, "no 500"),
    ],
)
def test_each_requirement_can_fail(changes: dict[str, object], broken: str) -> None:
    failed = [name for name, held in requirements(observed(**changes)).items() if not held]
    assert any(broken in name for name in failed)
    assert "NO" in render(observed(**changes))


def test_an_act_without_an_answer_is_a_surprise() -> None:
    answers = {act.name: {"200": 1} for act in ACTS[1:]}
    assert surprises(answers)[ACTS[0].name] == {"none": 1}


def test_answers_that_a_defended_server_does_not_give_are_named() -> None:
    answers = {act.name: {sorted(act.wanted)[0]: 3} for act in ACTS}
    answers["half-closed"] = {"200": 5, "closed": 2}
    assert surprises(answers) == {"half-closed": {"closed": 2}}
    assert "unwanted, half-closed: closed: 2" in render(observed(answers=answers))
