"""The waiting items of each tenant, and whose turn it is: start-time fair queueing. No HTTP.

Every tenant has a virtual time, its tokens served over its weight. The tenant with the least is
served first, its most urgent item at once; one that comes back starts level with those that are
served, so it can neither starve nor live on what it left long ago. Within a tenant, urgency alone
decides. Costs are O(log n) a step. Source: P. Goyal, H. Vin and H. Chen, "Start-time Fair
Queueing", SIGCOMM 1996.

Two things keep short requests short beside a tenant with much to do (decision 38). Who comes back
at once keeps what it was served too little, up to ``slack``: it asks for less than its share on
average, but not evenly. And who has more than ``slack`` waiting is in no hurry: its tokens count
``BULK`` times: beside one other of its weight it has a quarter, if that asks for the rest.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Collection, Iterator, Sequence

from osa.service.auth.tenants import Tenant
from osa.service.batching.item import WorkItem

Entry = tuple[float, int, WorkItem]
"""Urgency with which an item was queued [s], order among equals, item."""
STEP_S = 0.05
"""Resolution with which waiting tokens are counted by urgency [s]."""
BULK = 3.0
"""Tokens of a tenant that has more than a batch waiting count so many times."""
KEPT = 64
"""Entries of no more use that are kept, beside as many as are of use, before they are swept out."""


class Flow:
    """What one tenant has waiting.

    Attributes:
        tenant: Whose it is.
        tokens: Tokens that wait.
        count: Items that wait.
        served: Virtual time: tokens served over the weight.
        taken: Tokens of its items that ``Flows.in_turn`` has given since ``Flows.settle``.
        left: Tokens of all tenants that were served when its last item left.
        turn: Number of its entry in the heap of turns; None while it has none.
    """

    def __init__(self, tenant: Tenant) -> None:
        """Nothing waits."""
        self.tenant = tenant
        self.turn: int | None = None
        self.tokens = self.count = 0
        self.served, self.left, self.taken = 0.0, -math.inf, 0
        self._heap: list[Entry] = []
        self._by_urgency: dict[int, int] = {}

    def ahead(self, urgency: float) -> int:
        """Tokens of items that are at least so urgent, counted in steps of ``STEP_S``."""
        last = int(urgency // STEP_S)
        return sum(tokens for step, tokens in self._by_urgency.items() if step <= last)

    def add(self, item: WorkItem, order: int) -> None:
        """Hold an item; ``order`` decides between equally urgent ones."""
        item.waiting, item.flow, item.queued_urgency = True, self, item.urgency
        heapq.heappush(self._heap, (item.queued_urgency, order, item))
        self._count(item, 1)

    def drop(self, item: WorkItem) -> None:
        """Hold an item that waits no longer."""
        item.waiting = False
        self._count(item, -1)
        if not self.count:
            self._heap.clear()
        elif len(self._heap) > 2 * self.count + KEPT:  # mostly dropped: sweep them out
            self._heap = [entry for entry in self._heap if entry[2].waiting]
            heapq.heapify(self._heap)

    def pop(self) -> Entry | None:
        """Take the entry of the most urgent item out of the heap; it counts as waiting still."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            if entry[2].waiting:
                return entry
        return None

    def put_back(self, entry: Entry) -> None:
        """Return an entry that was popped and not served."""
        heapq.heappush(self._heap, entry)

    def items(self) -> list[WorkItem]:
        """Every waiting item."""
        return [entry[2] for entry in self._heap if entry[2].waiting]

    def _count(self, item: WorkItem, sign: int) -> None:
        self.count += sign
        self.tokens += sign * item.tokens
        step = int(item.queued_urgency // STEP_S)
        tokens = self._by_urgency.get(step, 0) + sign * item.tokens
        if tokens:
            self._by_urgency[step] = tokens
        else:
            self._by_urgency.pop(step, None)


class Flows:
    """The flows of all tenants. Not thread-safe: the queue holds its lock.

    Attributes:
        tokens: Tokens that wait.
        count: Items that wait.
        slack: Tokens of about a batch.
    """

    def __init__(self, slack: int = 0) -> None:
        """Nothing waits."""
        self.tokens = self.count = 0
        self.slack = slack
        self._flows: dict[str, Flow] = {}
        self._turns: list[tuple[float, int, Flow]] = []  # outdated entries are not their flow's
        self._order = itertools.count()
        self._level = 0.0  # virtual time at which the item that was served last began
        self._done = 0  # tokens that were served
        self._taken: list[tuple[Flow, Entry]] = []
        self._next_sweep = KEPT
        self._waiting = 0  # tenants that have something waiting

    def __len__(self) -> int:
        """Tenants that have something waiting, or were served more than those that have."""
        return len(self._flows)

    @property
    def competing(self) -> bool:
        """Whether several tenants have something waiting."""
        return self._waiting > 1

    def waiting(self, tenant: Tenant) -> int:
        """Tokens that a tenant has waiting."""
        flow = self._flows.get(tenant.identity)
        return 0 if flow is None else flow.tokens

    def ahead(self, tenant: Tenant, urgency: float, tokens: int) -> int:
        """Tokens that are served before the last of a tenant's ``tokens`` of this urgency."""
        own = self._flows.get(tenant.identity)
        before, served = (0, self._level) if own is None else (own.ahead(urgency), own.served)
        if own is not None and not own.count:
            served = self._start(own)
        waiting = tokens if own is None else tokens + own.tokens
        done = served + self._cost(tenant, waiting, before + tokens)
        for flow in self._flows.values():
            if flow is not own and flow.count and flow.served < done:
                before += self._served_by(flow, done)
        return before

    def add(self, tenant: Tenant, items: Sequence[WorkItem]) -> None:
        """Hold items of a tenant."""
        if not items:
            return
        flow = self._flows.get(tenant.identity)
        if flow is None:
            flow = self._flows[tenant.identity] = Flow(tenant)
        flow.tenant = tenant  # its weight may have changed
        if not flow.count:
            self._waiting += 1
            flow.served = self._start(flow)
            self._give_turn(flow, flow.served)
        for item in items:
            flow.add(item, next(self._order))
        self.count += len(items)
        self.tokens += sum(item.tokens for item in items)

    def drop(self, item: WorkItem) -> None:
        """Drop a waiting item."""
        flow = item.flow
        assert flow is not None  # it waits
        self._leave(flow, item)
        self._forget()

    def in_turn(self) -> Iterator[WorkItem]:
        """Waiting items in the order in which they are to be served; ``settle`` must follow."""
        while self._turns:
            served, order, flow = heapq.heappop(self._turns)
            if order != flow.turn:
                continue
            flow.turn = None
            while (entry := flow.pop()) is not None:
                self._taken.append((flow, entry))
                yield entry[2]
                tokens = entry[2].tokens  # as if they were served
                served += self._cost(flow.tenant, flow.tokens - flow.taken, tokens)
                flow.taken += tokens
                if self._turns and self._turns[0][0] <= served:
                    self._give_turn(flow, served)
                    break

    def settle(self, places: Collection[int]) -> list[WorkItem]:
        """Serve those items that ``in_turn`` has given at these places, and hold the others."""
        chosen = set(places)
        items = []
        for place, (flow, entry) in enumerate(self._taken):
            if place not in chosen:
                flow.put_back(entry)
                continue
            item = entry[2]
            self._level = max(self._level, flow.served)
            flow.served += self._cost(flow.tenant, flow.tokens, item.tokens)
            self._done += item.tokens
            self._leave(flow, item)
            items.append(item)
        for flow in {flow for flow, _ in self._taken}:
            flow.taken = 0
            if flow.count and (flow.turn is None or len(chosen) < len(self._taken)):
                self._give_turn(flow, flow.served)
        self._taken = []
        self._forget()
        return items

    def drain(self) -> list[WorkItem]:
        """Remove and return every waiting item."""
        items = [item for flow in self._flows.values() for item in flow.items()]
        for item in items:
            item.waiting = False
        self.tokens = self.count = 0
        self._forget()
        return items

    def _cost(self, tenant: Tenant, waiting: int, tokens: int) -> float:
        """Virtual time of serving so many tokens of a tenant that has ``waiting``."""
        bulk = min(tokens, max(0, waiting - self.slack))
        return (tokens + (BULK - 1.0) * bulk) / tenant.weight

    def _served_by(self, flow: Flow, time: float) -> int:
        """Tokens that a tenant is served until its virtual time is ``time``: ``_cost`` inverted."""
        units = (time - flow.served) * flow.tenant.weight
        bulk = max(0, flow.tokens - self.slack)
        tokens = units / BULK if units <= BULK * bulk else units - (BULK - 1.0) * bulk
        return min(flow.tokens, int(tokens))

    def _start(self, flow: Flow) -> float:
        """Virtual time with which a tenant comes back that had nothing waiting."""
        credit = self.slack / flow.tenant.weight if self._was_just_here(flow) else 0.0
        return max(flow.served, self._level - credit)

    def _was_just_here(self, flow: Flow) -> bool:
        """Whether others were served a batch at most since a tenant had something waiting."""
        return self._done - flow.left <= self.slack

    def _leave(self, flow: Flow, item: WorkItem) -> None:
        flow.drop(item)
        if not flow.count:
            self._waiting -= 1
            flow.left = self._done
        self.count -= 1
        self.tokens -= item.tokens

    def _give_turn(self, flow: Flow, served: float) -> None:
        flow.turn = next(self._order)
        heapq.heappush(self._turns, (served, flow.turn, flow))

    def _forget(self) -> None:
        """Forget tenants of whom nothing needs to be known any more."""
        if not self.count:
            self._waiting = 0
            self._flows.clear()
            self._turns.clear()
            self._level = 0.0
        elif len(self._turns) > 2 * len(self._flows) + KEPT or len(self._flows) > self._next_sweep:
            self._flows = {
                identity: flow
                for identity, flow in self._flows.items()
                if flow.count or flow.served > self._level or self._was_just_here(flow)
            }
            self._next_sweep = 2 * len(self._flows) + KEPT
            self._turns = [entry for entry in self._turns if entry[1] == entry[2].turn]
            heapq.heapify(self._turns)
