"""The measurements of one server in one round, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.serving.harness.corpus import MIXED
from benchmarks.serving.harness.measurements import (
    FRACTIONS,
    Cost,
    Goodput,
    measure_abandoned,
    measure_batch_invariance,
    measure_cost,
    measure_goodput,
    measure_idle,
)
from benchmarks.serving.harness.system_under_test import SystemUnderTest

LENGTHS = (32, 202)
SETTLE_S = 5.0
"""Pause between load and the measurement of the idle server [s]."""


@dataclass(frozen=True)
class MeasurementPlan:
    """Durations and sizes of the measurements.

    Attributes:
        warm_s: Warm-up before a closed loop [s].
        cost_s: Duration of a closed loop [s].
        goodput_s: Duration of each open loop [s].
        idle_s: Duration of the measurement of the idle server [s].
        deadline_s: Time after which a client of an open loop gives up [s].
        invariance_texts: Texts whose vectors are compared between batches.
        invariance_rounds: Random batches of each of them.
    """

    warm_s: float = 3.0
    cost_s: float = 8.0
    goodput_s: float = 15.0
    idle_s: float = 20.0
    deadline_s: float = 2.0
    invariance_texts: int = 64
    invariance_rounds: int = 4


QUICK = MeasurementPlan(1.0, 2.0, 3.0, 2.0, 2.0, 16, 2)


@dataclass
class RoundResult:
    """Measurements of one server in one round.

    Attributes:
        cold_start_s: Time from start to first answer [s].
        cold_start_cpu_s: CPU time until then [s].
        costs: Closed loops by length [tokens]; ``MIXED`` if goodput was measured.
        error: Largest difference of a vector's entry from the float32 reference.
        idle: Share of a core that the idle server uses; None, as below, if not measured.
        resident_mb: Resident memory of all processes after load [MB].
        proportional_mb: The same with shared pages counted once [MB].
        capacity: Right answers of mixed lengths in a closed loop [1/s].
        goodputs: Open loops at fractions of the capacity.
        abandoned: Share of abandoned work that is computed all the same, by length [tokens].
        changed_bits: Number of texts whose vector changes with batch composition, and of how many.
        notes: Measurements that failed, and why.
    """

    cold_start_s: float
    cold_start_cpu_s: float
    costs: dict[int, Cost] = field(default_factory=dict)
    error: float = 0.0
    idle: float | None = None
    resident_mb: float | None = None
    proportional_mb: float | None = None
    capacity: float | None = None
    goodputs: list[Goodput] = field(default_factory=list)
    abandoned: dict[int, float] = field(default_factory=dict)
    changed_bits: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)


def measure_round(system: SystemUnderTest, plan: MeasurementPlan, whole: bool) -> RoundResult:
    """Measure a running server.

    Args:
        system: The server and its texts.
        plan: Durations.
        whole: Measure everything; otherwise only cold start and costs.
    """
    server = system.server
    found = RoundResult(server.cold_start_s, server.cold_start_cpu_s)
    for length in LENGTHS:
        found.costs[length] = measure_cost(system, length, plan.warm_s, plan.cost_s)
    if whole and server.peer.whole:
        time.sleep(SETTLE_S)
        found.idle = system.idle_share = measure_idle(system, plan.idle_s)
        # the measurements that may disturb a server for good come last
        for step in (_batch_invariance, _memory, _abandoned, _goodputs):
            _try(step, system, plan, found)
    found.error = system.largest_error
    return found


Step = Callable[[SystemUnderTest, MeasurementPlan, RoundResult], None]


def _try(step: Step, system: SystemUnderTest, plan: MeasurementPlan, found: RoundResult) -> None:
    """Run one measurement; if the server stays busy or fails, only that measurement is lost."""
    try:
        system.wait_until_idle()
        step(system, plan, found)
    except (TimeoutError, OSError) as error:
        found.notes.append(f"{step.__name__.removeprefix('_')}: {error}")


def _goodputs(system: SystemUnderTest, plan: MeasurementPlan, found: RoundResult) -> None:
    cost = measure_cost(system, MIXED, plan.warm_s, plan.cost_s)
    found.costs[MIXED], found.capacity = cost, cost.texts_per_s
    for fraction in FRACTIONS:
        found.goodputs.append(
            measure_goodput(system, found.capacity, fraction, plan.goodput_s, plan.deadline_s)
        )
        system.wait_until_idle()


def _abandoned(system: SystemUnderTest, plan: MeasurementPlan, found: RoundResult) -> None:
    for length in LENGTHS:
        found.abandoned[length] = measure_abandoned(system, length)


def _batch_invariance(system: SystemUnderTest, plan: MeasurementPlan, found: RoundResult) -> None:
    texts, rounds = plan.invariance_texts, plan.invariance_rounds
    found.changed_bits = measure_batch_invariance(system, texts, rounds), texts


def _memory(system: SystemUnderTest, plan: MeasurementPlan, found: RoundResult) -> None:
    resident, proportional = system.server.tree.memory_bytes()
    found.resident_mb, found.proportional_mb = resident / 1e6, proportional / 1e6
