"""Discrete events: requests, batches, pods that start, die and leave, and the autoscaler."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import numpy as np

from benchmarks.replicas.autoscaler import Autoscaler, Totals
from benchmarks.replicas.load import Lengths, Load
from benchmarks.replicas.pods import EngineCost, Pod, PodLimits, Request

Routing = Literal["random", "two"]
CPU_OVERHEAD = 0.08
"""CPU time of a busy pod besides its engine's, as a share of it: parsing, tokenising."""


@dataclass(frozen=True)
class World:
    """What does not change in a run.

    Attributes:
        cost: Of engines.
        limits: Of servers.
        lengths: Of inputs.
        start_s: From the decision for a pod to its first answer [s].
        life_s: Mean time until a pod dies, which is replaced; infinite for never [s].
        routing: ``random``, as kube-proxy does, or the shorter of ``two`` queues.
        late_s: A request is late that takes longer [s].
        seed: Of everything random.
    """

    cost: EngineCost
    limits: PodLimits = field(default_factory=PodLimits)
    lengths: Lengths = field(default_factory=Lengths)
    start_s: float = 10.0
    life_s: float = math.inf
    routing: Routing = "random"
    late_s: float = 2.0
    seed: int = 0


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        latencies: Of all answered requests [s].
        refused: Requests answered 429.
        retried: Requests that a dying pod lost, which came again.
        pod_s: Time that pods existed [s].
        work_s: Time that the tokens take one engine in large batches [s].
        most: Most pods at a time.
        trace: Time [s], pods, and queued work of all pods [s], at every scrape.
    """

    latencies: np.ndarray
    refused: int = 0
    retried: int = 0
    pod_s: float = 0.0
    work_s: float = 0.0
    most: int = 0
    trace: list[tuple[float, int, float]] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """A latency that so large a share stays below [s]."""
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else math.nan

    def late(self, limit_s: float) -> float:
        """Share of requests that took longer, or were refused."""
        count = len(self.latencies) + self.refused
        return (int((self.latencies > limit_s).sum()) + self.refused) / count if count else 0.0

    @property
    def cost(self) -> float:
        """Pods' time over the time that the work takes at least."""
        return self.pod_s / self.work_s if self.work_s else math.nan


class Simulation:
    """One run."""

    def __init__(
        self, world: World, load: Load, peak_pods: float, pods: int, scaler: Autoscaler | None
    ) -> None:
        """Describe a run.

        Args:
            world: What does not change.
            load: What comes.
            peak_pods: Work at a share of 1, in pods that are busy all the time.
            pods: How many there are at first, ready.
            scaler: Changes their number; None for a fixed one.
        """
        self._world, self._load, self._scaler = world, load, scaler
        self._requests_s = peak_pods * world.cost.rate / world.lengths.mean()
        self._random = np.random.default_rng(world.seed)
        self._events: list[tuple[float, int, str, Any]] = []
        self._order = count()
        self._pods: list[Pod] = []
        self._ready: list[Pod] = []
        self._gone_busy = self._gone_served = 0.0
        self._latencies: list[float] = []
        self._uniform: Iterator[float] = iter(())
        self.outcome = Outcome(np.zeros(0))
        for _ in range(pods):
            self._start(0.0, ready=True)

    def run(self) -> Outcome:
        """Run to the end of the load, and until all that came is answered."""
        arrivals = self._arrivals()
        following = next(arrivals, None)
        if self._scaler is not None:
            self._at(self._scaler.policy.scrape_s, "scrape", None)
            self._at(self._scaler.policy.every_s + 1.0, "decide", None)
        now = 0.0
        end = self._load.duration_s
        while following is not None or self._events:
            if following is not None and (
                not self._events or following.arrived <= self._events[0][0]
            ):
                self._arrive(following.arrived, following)
                following = next(arrivals, None)
                continue
            now, _, kind, what = heapq.heappop(self._events)
            if kind == "done":
                self._finish(now, what)
            elif now < end:  # afterwards nothing changes but what is queued
                getattr(self, f"_{kind}")(now, what)
        outcome = self.outcome
        for pod in self._pods:
            outcome.pod_s += end - pod.ready_at + self._world.start_s if pod.ready_at else end
        outcome.latencies = np.array(self._latencies)
        return outcome

    def _arrivals(self) -> Iterator[Request]:
        """Requests in order: a Poisson process, thinned to the load's share."""
        generator, load = np.random.default_rng(self._world.seed + 1), self._load
        peak = max(load.share(at) for at in np.arange(0.0, load.duration_s, 1.0)) * 1.001
        at = 0.0
        while at < load.duration_s:
            gaps = generator.exponential(1.0 / (self._requests_s * peak), 8192)
            kept = generator.random(8192)
            lengths = self._world.lengths.draw(generator, 8192)
            for gap, chance, tokens in zip(
                gaps.tolist(), kept.tolist(), lengths.tolist(), strict=True
            ):
                at += gap
                if at >= load.duration_s:
                    return
                if chance * peak < load.share(at):
                    tokens = max(3, int(tokens * load.longer(at)))
                    self.outcome.work_s += tokens * self._world.cost.token_s
                    yield Request(at, tokens)

    def _at(self, when: float, kind: str, what: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), kind, what))

    def _start(self, now: float, ready: bool = False) -> None:
        pod = Pod(self._world.cost, self._world.limits, 0.0 if ready else now + self._world.start_s)
        self._pods.append(pod)
        self.outcome.most = max(self.outcome.most, len(self._pods))
        if ready:
            self._ready.append(pod)
        else:
            self._at(pod.ready_at, "serve", pod)
        if self._world.life_s < math.inf:
            life = float(self._random.exponential(self._world.life_s))
            self._at(pod.ready_at + life, "die", pod)

    def _serve(self, now: float, pod: Pod) -> None:
        if not pod.leaving and not pod.dead:
            self._ready.append(pod)

    def _arrive(self, now: float, request: Request) -> None:
        if not self._ready:
            self.outcome.refused += 1
            return
        pod = self._choose()
        if not pod.put(request):
            self.outcome.refused += 1
        elif pod.busy_since is None:
            self._at(pod.begin(now), "done", pod)

    def _choose(self) -> Pod:
        pods = self._ready
        one = pods[int(self._draw() * len(pods))]
        if self._world.routing == "random":
            return one
        other = pods[int(self._draw() * len(pods))]
        return other if other.queued < one.queued else one

    def _draw(self) -> float:
        value = next(self._uniform, None)
        if value is None:
            self._uniform = iter(self._random.random(4096).tolist())
            value = next(self._uniform)
        return value

    def _finish(self, now: float, pod: Pod) -> None:
        if pod.dead:
            return
        self._latencies.extend(now - request.arrived for request in pod.end(now))
        if pod.waiting:
            self._at(pod.begin(now), "done", pod)
        elif pod.leaving:
            self._remove(now, pod)

    def _die(self, now: float, pod: Pod) -> None:
        """A pod is gone at once; clients send again what it had, and it is replaced."""
        if pod.dead:
            return
        lost = [*pod.batch, *pod.waiting]
        replaced = not pod.leaving
        self._remove(now, pod)
        if replaced:
            self._start(now)
        for request in lost:
            self.outcome.retried += 1
            self._arrive(now, request)

    def _remove(self, now: float, pod: Pod) -> None:
        pod.dead = True
        self._gone_busy += pod.busy_until(now)
        self._gone_served += pod.served
        self._pods.remove(pod)
        if pod in self._ready:
            self._ready.remove(pod)
        begun = pod.ready_at - self._world.start_s if pod.ready_at else 0.0
        self.outcome.pod_s += max(0.0, now - begun)

    def _scrape(self, now: float, _: None) -> None:
        assert self._scaler is not None
        busy = self._gone_busy + sum(pod.busy_until(now) for pod in self._pods)
        served = self._gone_served + sum(pod.served for pod in self._pods)
        backlog = sum(pod.backlog_s() for pod in self._pods)
        self._scaler.scrape(Totals(now, backlog, busy, busy * (1 + CPU_OVERHEAD), served))
        self.outcome.trace.append((now, len(self._pods), backlog))
        self._at(now + self._scaler.policy.scrape_s, "scrape", None)

    def _decide(self, now: float, _: None) -> None:
        assert self._scaler is not None
        staying = [pod for pod in self._pods if not pod.leaving]
        wanted = self._scaler.decide(now, len(staying))
        for _more in range(wanted - len(staying)):
            self._start(now)
        for pod in staying[wanted:]:  # the youngest
            pod.leaving = True
            if pod in self._ready:
                self._ready.remove(pod)
            if pod.busy_since is None and not pod.waiting:
                self._remove(now, pod)
        self._at(now + self._scaler.policy.every_s, "decide", None)
