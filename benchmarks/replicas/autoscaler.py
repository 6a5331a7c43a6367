"""The autoscaler of Kubernetes on one signal or several, as the chart sets it.

Every ``every_s`` it asks for ceil(sum of the signal / target) pods, the most of all signals, within
the policies of a HorizontalPodAutoscaler. Signals are as old as Prometheus makes them.
Source: Kubernetes, "Horizontal Pod Autoscaling" (algorithm details, scaling policies).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

TOLERANCE = 0.1
"""A ratio to the target that is nearer to 1 changes nothing."""


@dataclass(frozen=True)
class Signal:
    """What is scaled on.

    Attributes:
        name: ``backlog``, ``busy``, ``cpu`` or ``requests``.
        target: Of a pod.
        window_s: Over which a rate is taken [s]; 0 for a gauge.
    """

    name: str
    target: float
    window_s: float = 0.0


@dataclass(frozen=True)
class Policy:
    """How fast it goes.

    Attributes:
        least: Fewest pods.
        most: Most pods.
        scrape_s: Between scrapes of Prometheus [s].
        every_s: Between decisions [s].
        up_factor: By how much pods may grow in ``up_period_s``.
        up_period_s: See there [s].
        down_pods: By how many pods they may shrink in ``down_period_s``.
        down_period_s: See there [s].
        down_share: Or by which share of them, what is more.
        down_window_s: For so long the highest wish of all holds [s].
    """

    least: int = 1
    most: int = 4
    scrape_s: float = 15.0
    every_s: float = 15.0
    up_factor: float = 2.0
    up_period_s: float = 60.0
    down_pods: int = 1
    down_period_s: float = 120.0
    down_share: float = 0.0
    down_window_s: float = 600.0


@dataclass
class Totals:
    """Counters and gauges of all pods at a scrape.

    Attributes:
        at: When [s].
        backlog: Sum of queued work [s].
        busy: Sum of the engines' time so far [s].
        cpu: Sum of the CPU time so far [cores x s, over the request of a pod].
        requests: Requests answered so far.
    """

    at: float
    backlog: float
    busy: float
    cpu: float
    requests: float


@dataclass
class Autoscaler:
    """Decides how many pods there should be.

    Attributes:
        signals: What it looks at.
        policy: How fast it goes.
    """

    signals: Sequence[Signal]
    policy: Policy
    _scrapes: deque[Totals] = field(default_factory=deque)
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def scrape(self, totals: Totals) -> None:
        """Take note of what pods say."""
        self._scrapes.append(totals)
        longest = max((signal.window_s for signal in self.signals), default=0.0)
        while len(self._scrapes) > 2 and self._scrapes[1].at <= totals.at - longest:
            self._scrapes.popleft()

    def decide(self, now: float, pods: int) -> int:
        """How many pods there should be, of so many that there are."""
        if not self._scrapes:
            return pods
        wish = max(self._wish(signal, pods) for signal in self.signals)
        wish = min(self.policy.most, max(self.policy.least, wish))
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - self.policy.down_window_s:
            self._wishes.popleft()
        if wish > pods:
            chosen = min(wish, self._ceiling(now, pods))
        else:
            held = max(value for _, value in self._wishes)
            chosen = min(pods, max(held, self._floor(now, pods)))
        if chosen != pods:
            self._changes.append((now, chosen - pods))
        return chosen

    def _wish(self, signal: Signal, pods: int) -> int:
        ratio = self._value(signal) / signal.target
        if abs(ratio / max(pods, 1) - 1.0) <= TOLERANCE:
            return pods
        return math.ceil(ratio)

    def _value(self, signal: Signal) -> float:
        """The sum of a signal over all pods."""
        last = self._scrapes[-1]
        if signal.name == "backlog":
            return last.backlog
        first = next(one for one in self._scrapes if one.at >= last.at - signal.window_s)
        if first is last:
            return 0.0
        gained: float = getattr(last, signal.name) - getattr(first, signal.name)
        return max(0.0, gained) / (last.at - first.at)

    def _ceiling(self, now: float, pods: int) -> int:
        before = pods - self._changed(now, self.policy.up_period_s, up=True)
        return max(pods, math.ceil(before * self.policy.up_factor))

    def _floor(self, now: float, pods: int) -> int:
        before = pods - self._changed(now, self.policy.down_period_s, up=False)
        fall = max(self.policy.down_pods, math.floor(before * self.policy.down_share))
        return min(pods, before - fall)

    def _changed(self, now: float, period_s: float, up: bool) -> int:
        recent = (count for at, count in self._changes if at > now - period_s)
        return sum(count for count in recent if (count > 0) == up)
