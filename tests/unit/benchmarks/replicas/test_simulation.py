"""The simulation against queueing theory, and what no event may break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replicas import report
from benchmarks.replicas.autoscaler import Autoscaler, Policy, Signal, Totals
from benchmarks.replicas.experiments import BOTH, CHOSEN, Row, scaled
from benchmarks.replicas.load import LOADS, Lengths, Load
from benchmarks.replicas.pods import EngineCost, Pod, PodLimits, Request
from benchmarks.replicas.simulation import Outcome, Simulation, World
from osa.service.batching.planner import plan_batch

COST = EngineCost(batch_s=0.0, token_s=1e-4)
ONE_BY_ONE = World(COST, PodLimits(batch_items=1, queue_tokens=10**9), Lengths(1000, 0.0))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.85])
def test_a_pod_without_batches_is_a_queue_of_theory(share: float) -> None:
    """M/D/1: mean wait = use x service / (2 (1 - use)), by Pollaczek and Khinchine."""
    load = Load("steady", 6000.0, lambda at: 1.0)
    outcome = Simulation(ONE_BY_ONE, load, share, 1, None).run()
    service = 1000 * COST.token_s
    expected = service + share * service / (2 * (1 - share))
    assert outcome.latencies.mean() == pytest.approx(expected, rel=0.04)
    assert outcome.pod_s == 6000.0
    assert outcome.cost == pytest.approx(1 / share, rel=0.02)


def test_batches_are_those_of_the_servers_planner() -> None:
    limits = PodLimits(batch_tokens=1024, batch_items=4)
    lengths = [700, 900, 300, 20, 4, 900, 5]
    pod = Pod(COST, limits, 0.0)
    for length in lengths:
        pod.put(Request(0.0, length))
    left = lengths
    while left:
        chosen = plan_batch(left, 1024, 4)
        pod.begin(0.0)
        assert [request.tokens for request in pod.batch] == [left[place] for place in chosen]
        left = [length for place, length in enumerate(left) if place not in chosen]
        assert pod.queued == sum(left)
        pod.end(1.0)
    assert not pod.waiting


@pytest.mark.parametrize("life_s", [float("inf"), 60.0])
def test_every_request_is_answered_once_or_refused(life_s: float) -> None:
    world = replace(ONE_BY_ONE, life_s=life_s, limits=PodLimits(queue_tokens=40_000))
    load = replace(LOADS["step"], duration_s=1000.0)
    simulation = Simulation(world, load, 4.0, 4, Autoscaler(BOTH, replace(CHOSEN, most=20)))
    came = len(list(simulation._arrivals()))
    outcome = Simulation(world, load, 4.0, 4, Autoscaler(BOTH, replace(CHOSEN, most=20))).run()
    assert len(outcome.latencies) + outcome.refused == came
    assert (outcome.retried > 0) == (life_s < 100)
    assert (outcome.latencies >= 1000 * COST.token_s * 0.99).all()
    assert outcome.most > 4


def test_the_shorter_of_two_queues_waits_less() -> None:
    load = Load("steady", 300.0, lambda at: 1.0)
    both = [
        Simulation(replace(ONE_BY_ONE, routing=routing), load, 8.5, 10, None).run()
        for routing in ("random", "two")
    ]
    assert both[1].quantile(0.99) < 0.5 * both[0].quantile(0.99)


def totals(at: float, backlog: float = 0.0, busy: float = 0.0) -> Totals:
    return Totals(at, backlog, busy, busy, 0.0)


def test_pods_follow_the_rules_of_a_horizontal_pod_autoscaler() -> None:
    policy = Policy(most=100, up_period_s=30.0, down_window_s=60.0, down_period_s=60.0)
    scaler = Autoscaler([Signal("backlog", 0.5)], policy)
    scaler.scrape(totals(0.0, backlog=9.0))
    assert scaler.decide(0.0, 4) == 8, "18 are wanted, twice as many are allowed"
    assert scaler.decide(15.0, 8) == 8, "within the period no more"
    assert scaler.decide(31.0, 8) == 16
    scaler.scrape(totals(62.0, backlog=8.3))
    assert scaler.decide(62.0, 16) == 16, "within the tolerance"
    scaler.scrape(totals(75.0, backlog=0.0))
    assert scaler.decide(75.0, 16) == 16, "the wishes of a minute hold"
    assert scaler.decide(140.0, 16) == 15, "one at a time"
    assert scaler.decide(155.0, 15) == 15
    assert scaler.decide(201.0, 15) == 14


def test_a_rate_is_taken_over_its_window() -> None:
    scaler = Autoscaler([Signal("busy", 0.8, 60.0)], Policy(most=100))
    for at in range(0, 301, 15):
        scaler.scrape(totals(float(at), busy=0.4 * min(at, 240) + 4.0 * max(0, at - 240)))
    assert scaler.decide(300.0, 4) == 5, "4 engines were busy for the last minute: ceil(4 / 0.8)"


def test_a_backlog_helps_where_a_busy_ratio_cannot_tell_how_much_is_missing() -> None:
    world = replace(ONE_BY_ONE, limits=PodLimits(), lengths=Lengths(2000, 0.5))
    by_busy = scaled(world, LOADS["step"], 8.0, BOTH[1:], CHOSEN)
    by_both = scaled(world, LOADS["step"], 8.0, BOTH, CHOSEN)
    assert by_both.quantile(0.99) < 0.7 * by_busy.quantile(0.99)


def test_a_report_has_a_row_a_run_and_plots(tmp_path: Path) -> None:
    outcome = Outcome(np.array([0.1, 0.2, 5.0]), refused=1, pod_s=20.0, work_s=10.0, most=3)
    outcome.trace = [(0.0, 1, 0.5), (15.0, 3, 0.0)]
    text = report.section("Signals", ("load", "signal"), [Row(("day", "CPU"), outcome)], 2.0)
    assert "| day | CPU | 0.200 | 4.90 | 50.00 % | 25.00 % | 3 | 2.00 |" in text
    report.plot_traces([Row(("day", "CPU"), outcome)], tmp_path / "a.svg")
    report.plot_fixed([Row(("1", "50%", "two"), outcome)], tmp_path / "b.svg")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.svg", "b.svg"))
