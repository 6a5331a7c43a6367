"""What is simulated: fixed numbers of pods, signals of the autoscaler, its policies, its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.replicas.autoscaler import Autoscaler, Policy, Signal
from benchmarks.replicas.load import LOADS, Load
from benchmarks.replicas.simulation import Outcome, Simulation, World

A_POD = 200
"""Requests of each pod at a steady load, at least: until queues are as long as they will be."""
FIXED = (1, 3, 10, 30, 100, 300, 1000)
SHARES = (0.5, 0.7, 0.8, 0.9)
PEAK = 8.0
"""Work of the peak, in pods that are busy all the time."""
SIZES = (1.0, 4.0, 16.0)
RESERVE = 0.7
"""Of a pod's rate, what it is given at most where pods are counted ahead."""


BACKLOG, BUSY = Signal("backlog", 0.5), Signal("busy", 0.8, 60.0)
BOTH = (BACKLOG, BUSY)
"""What the chart scales on."""


def signals_of(world: World) -> dict[str, Sequence[Signal]]:
    """Signals by name, each with a target of about the same use of a pod."""
    a_pod = world.cost.rate / world.lengths.mean()
    late = replace(BUSY, window_s=120.0)
    return {
        "backlog": [BACKLOG],
        "busy, 2 min": [late],
        "busy, 1 min": [BUSY],
        "backlog and busy, 2 min": [BACKLOG, late],
        "backlog and busy, 1 min": BOTH,
        "CPU": [Signal("cpu", 0.7, 60.0)],
        "requests": [Signal("requests", RESERVE * a_pod, 60.0)],
    }


CHART = Policy()
"""What the chart had before this was simulated."""
CHOSEN = replace(CHART, up_period_s=30.0, down_share=0.1, down_period_s=60.0, down_window_s=300.0)
"""What it has now."""
TARGETS = (0.25, 0.5, 1.0, 2.0)
"""Of the backlog [s]."""
POLICIES = {
    "up 100 % in 60 s, down 1 pod in 120 s after 10 min": CHART,
    "up 100 % in 60 s, down 10 % in 60 s after 5 min": replace(CHOSEN, up_period_s=60.0),
    "up 100 % in 30 s, down 10 % in 60 s after 5 min": CHOSEN,
    "up 100 % in 15 s, down 10 % in 60 s after 5 min": replace(CHOSEN, up_period_s=15.0),
}


@dataclass(frozen=True)
class Row:
    """One run of an experiment.

    Attributes:
        labels: What distinguishes it.
        outcome: What came of it.
    """

    labels: tuple[str, ...]
    outcome: Outcome


def fixed(world: World, requests: int) -> Iterator[Row]:
    """Numbers of pods at a steady load, requests sent to any pod, or to the shorter of two queues.

    Args:
        world: What does not change.
        requests: About how many are simulated in a run, at least ``A_POD`` of each pod.
    """
    a_pod = world.cost.rate / world.lengths.mean()
    for pods in FIXED:
        for share in SHARES:
            for routing in ("random", "two"):
                own = replace(world, routing=routing)
                count = max(requests, A_POD * pods)
                load = Load("steady", count / (a_pod * pods * share), lambda at: 1.0)
                outcome = Simulation(own, load, pods * share, pods, None).run()
                skipped = len(outcome.latencies) // 5  # queues were empty at first
                outcome.latencies = outcome.latencies[skipped:]
                yield Row((str(pods), f"{share:.0%}", routing), outcome)


def scaled(
    world: World, load: Load, peak: float, signals: Sequence[Signal], policy: Policy
) -> Outcome:
    """A load with an autoscaler.

    Args:
        world: What does not change.
        load: What comes.
        peak: Its peak, in pods that are busy all the time.
        signals: What is scaled on.
        policy: How fast.
    """
    begun = max(1, round(load.share(0.0) * peak / RESERVE))
    policy = replace(policy, least=max(1, begun // 2), most=max(4, round(3 * peak)))
    return Simulation(world, load, peak, begun, Autoscaler(signals, policy)).run()


def by_signal(world: World) -> Iterator[Row]:
    """Every signal on every load."""
    for name in LOADS:
        for label, signals in signals_of(world).items():
            yield Row((name, label), scaled(world, LOADS[name], PEAK, signals, CHOSEN))


def by_target(world: World) -> Iterator[Row]:
    """Targets of the backlog, which are what callers wait."""
    for name in ("day", "step"):
        for target in TARGETS:
            signals = [replace(BACKLOG, target=target), BUSY]
            yield Row((name, f"{target:g}"), scaled(world, LOADS[name], PEAK, signals, CHOSEN))


def by_policy(world: World) -> Iterator[Row]:
    """Every policy on both signals."""
    for name in ("day", "step"):
        for label, policy in POLICIES.items():
            yield Row((name, label), scaled(world, LOADS[name], PEAK, BOTH, policy))


def by_size(world: World, sizes: Sequence[float] = SIZES) -> Iterator[Row]:
    """Peaks from one pod to many: the policy that the chart had, and the one that it has."""
    for peak in sizes:
        for label, policy in (("before", CHART), ("now", CHOSEN)):
            yield Row((f"{peak:g}", label), scaled(world, LOADS["day"], peak, BOTH, policy))


def by_fault(world: World) -> Iterator[Row]:
    """Pods that start more slowly, and pods that die."""
    worlds = {
        "10 s to start": world,
        "60 s to start": replace(world, start_s=60.0),
        "10 s to start, a pod lives 10 min": replace(world, life_s=600.0),
        "60 s to start, a pod lives 10 min": replace(world, start_s=60.0, life_s=600.0),
    }
    for label, own in worlds.items():
        yield Row((label,), scaled(own, LOADS["day"], PEAK, BOTH, CHOSEN))
