"""One server from start to end: what is measured of it in a round, and how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.serving.measures import (
    FRACTIONS,
    Cost,
    Goodput,
    measure_abandoned,
    measure_bits,
    measure_cost,
    measure_goodput,
    measure_idle,
)
from benchmarks.serving.subject import MIXED, Subject

LENGTHS = (32, 202)
SETTLE_S = 5.0
"""Between load and what is called idle [s]."""


@dataclass(frozen=True)
class Effort:
    """How long things take.

    Attributes:
        warm_s: Load before a closed loop counts [s].
        cost_s: A closed loop [s].
        goodput_s: Each open loop [s].
        idle_s: Watching an idle server [s].
        deadline_s: When a caller of an open loop gives up [s].
        bit_texts: Texts whose bits are compared.
        bit_rounds: Random batches for each of them.
    """

    warm_s: float = 3.0
    cost_s: float = 8.0
    goodput_s: float = 15.0
    idle_s: float = 20.0
    deadline_s: float = 2.0
    bit_texts: int = 64
    bit_rounds: int = 4


QUICK = Effort(1.0, 2.0, 3.0, 2.0, 2.0, 16, 2)


@dataclass
class Visit:
    """What one round found of one server.

    Attributes:
        cold_start_s: From its start to its first answer [s].
        cold_start_cpu_s: CPU time of that [s].
        costs: Closed loops by length [tokens]; ``MIXED`` where goodput was measured.
        error: Largest difference of an entry from the float32 truth.
        idle: Share of a core when nobody asks; None where it was not measured, like what follows.
        resident_mb: Resident memory of all processes after load [MB].
        proportional_mb: The same, shared pages counted once [MB].
        capacity: Mixed texts a second in a closed loop.
        goodputs: Open loops at shares of it.
        abandoned: Share of abandoned work that is done all the same, by length [tokens].
        changed_bits: Texts whose bits depend on batch mates, of how many.
        notes: What could not be measured, and why.
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


def visit(subject: Subject, effort: Effort, whole: bool) -> Visit:
    """Measure a running server.

    Args:
        subject: The server and its texts.
        effort: How long.
        whole: Everything that is measured of it; otherwise cold start and costs alone.
    """
    server = subject.server
    found = Visit(server.cold_start_s, server.cold_start_cpu_s)
    for length in LENGTHS:
        found.costs[length] = measure_cost(subject, length, effort.warm_s, effort.cost_s)
    if whole and server.peer.whole:
        time.sleep(SETTLE_S)
        found.idle = subject.idle = measure_idle(subject, effort.idle_s)
        # what may leave a server broken comes last
        for step in (_measure_bits, _measure_memory, _measure_abandoned, _measure_goodputs):
            _try(step, subject, effort, found)
    found.error = subject.worst
    return found


Step = Callable[[Subject, Effort, Visit], None]


def _try(step: Step, subject: Subject, effort: Effort, found: Visit) -> None:
    """A server that does not come to rest, or goes away, costs that measure alone."""
    try:
        subject.rest()
        step(subject, effort, found)
    except (TimeoutError, OSError) as error:
        found.notes.append(f"{step.__name__.removeprefix('_measure_')}: {error}")


def _measure_goodputs(subject: Subject, effort: Effort, found: Visit) -> None:
    cost = measure_cost(subject, MIXED, effort.warm_s, effort.cost_s)
    found.costs[MIXED], found.capacity = cost, cost.texts_per_s
    for fraction in FRACTIONS:
        found.goodputs.append(
            measure_goodput(subject, found.capacity, fraction, effort.goodput_s, effort.deadline_s)
        )
        subject.rest()


def _measure_abandoned(subject: Subject, effort: Effort, found: Visit) -> None:
    for length in LENGTHS:
        found.abandoned[length] = measure_abandoned(subject, length)


def _measure_bits(subject: Subject, effort: Effort, found: Visit) -> None:
    found.changed_bits = measure_bits(subject, effort.bit_texts, effort.bit_rounds)


def _measure_memory(subject: Subject, effort: Effort, found: Visit) -> None:
    resident, proportional = subject.server.tree.memory_bytes()
    found.resident_mb, found.proportional_mb = resident / 1e6, proportional / 1e6
