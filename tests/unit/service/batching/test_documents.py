"""The lane of long inputs: turns of tenants, bounds, and what becomes of documents given up."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from osa.model.layers.pooling import EmbeddingOutput
from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.auth.tenants import Tenant
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.document_run import LEAST, Pace
from osa.service.batching.documents import DocumentLane, DocumentLimits
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.errors import BackendError, DeadlineError, OverloadedError, TooManyTokensError
from tests.conftest import wait_until

ONE, OTHER = Tenant("one"), Tenant("other")


class StepEngine:
    """Takes a step a thousand tokens, and notes whose."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.closed = 0

    def stream(
        self, ids: Any, spans: Any, options: StreamOptions
    ) -> Generator[Progress, None, Document]:
        try:
            for done in range(1000, len(ids) + 1, 1000):
                self.steps.append(len(ids))
                yield Progress(1000, done, 1)
            vector = torch.ones(1, 2)
            return Document(EmbeddingOutput(vector, vector[:, 0]), len(ids))
        finally:
            self.closed += 1


def lane_of(*documents: tuple[Tenant, int], deadline: float = math.inf) -> tuple[Any, ...]:
    lane = DocumentLane(DocumentLimits(1000, 20_000, turn_s=0.0), threading.Condition())
    found: dict[int, ItemResult] = {}
    items = []
    for tenant, tokens in documents:
        item = WorkItem([0] * tokens, deadline=deadline)
        item.deliver = partial(found.__setitem__, tokens)
        lane.check([item])
        lane.add([item], tenant)
        items.append(item)
    return lane, items, found


def run(lane: DocumentLane, engine: Any) -> None:
    while lane.pending:
        lane.turn(engine, lambda: False)


def test_tenants_take_turns_and_each_document_ends_once() -> None:
    lane, _, found = lane_of((ONE, 3000), (ONE, 2000), (OTHER, 4000))
    engine = StepEngine()
    run(lane, engine)
    assert engine.steps[:6] == [3000, 4000, 3000, 4000, 3000, 4000]
    assert sorted(engine.steps) == [2000] * 2 + [3000] * 3 + [4000] * 4
    assert {size: result.error for size, result in found.items()} == dict.fromkeys(
        (2000, 3000, 4000)
    )
    assert lane.tokens == 0
    assert engine.closed == 3


def test_documents_have_a_bound_of_their_own() -> None:
    lane, _, _ = lane_of((ONE, 15_000))
    with pytest.raises(OverloadedError, match="no room for 6000 more"):
        lane.check([WorkItem([0] * 6000)])
    with pytest.raises(TooManyTokensError, match="at most 20000"):
        lane.check([WorkItem([0] * 21_000)])


def test_what_is_not_wanted_ends_at_its_next_step() -> None:
    lane, items, found = lane_of((ONE, 5000), (ONE, 2000))
    engine = StepEngine()
    lane.turn(engine, lambda: False)
    items[0].cancelled = True
    assert lane.cancel(items[0]) == 0  # in work
    assert lane.cancel(items[1]) == 2000
    run(lane, engine)
    assert engine.steps == [5000]
    assert engine.closed == 1
    assert (found, lane.tokens) == ({}, 0)


def test_a_deadline_is_answered() -> None:
    lane, _, found = lane_of((ONE, 5000), deadline=0.0)
    run(lane, StepEngine())
    assert isinstance(found[5000].error, DeadlineError)


def test_documents_in_work_fail_with_their_thread_and_others_stay() -> None:
    lane, _, found = lane_of((ONE, 5000), (ONE, 3000))
    engine = StepEngine()
    lane.turn(engine, lambda: False)
    lane.abandon(BackendError("replaced"))
    assert isinstance(found[5000].error, BackendError)
    run(lane, engine)
    assert found[3000].error is None
    assert lane.tokens == 0


def waiting_for_nothing() -> None:
    """No document has begun."""


class WaitingEngine(StepEngine):
    """Whose disk is behind after every step of some documents."""

    def __init__(self, slow: int) -> None:
        super().__init__()
        self.slow, self.behind = slow, False
        self.wake: Callable[[], None] = waiting_for_nothing

    def stream(
        self, ids: Any, spans: Any, options: StreamOptions
    ) -> Generator[Progress, None, Document]:
        assert options.wake is not None
        self.wake = options.wake
        steps = super().stream(ids, spans, options)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                document: Document = end.value
                return document
            yield step
            self.behind = self.behind or len(ids) == self.slow
            while len(ids) == self.slow and self.behind:
                yield Progress(0, step.done, 1, waits=lambda: self.behind)


def test_a_document_whose_disk_is_behind_has_no_turn() -> None:
    lane, _, found = lane_of((ONE, 3000), (OTHER, 2000))
    engine = WaitingEngine(slow=3000)
    while lane.ready:
        lane.turn(engine, lambda: False)
    assert engine.steps == [3000, 2000, 2000]
    assert list(found) == [2000]
    assert lane.pending, "it is there, and there is nothing to do"
    assert lane.turn(engine, lambda: False) == 0
    engine.behind = False
    assert lane.ready
    while lane.ready:
        lane.turn(engine, lambda: False)
    assert engine.steps == [3000, 2000, 2000, 3000]


@pytest.mark.parametrize("end", ["cancelled", "late"])
def test_a_document_that_waits_for_its_disk_can_be_given_up(end: str) -> None:
    lane, items, found = lane_of((ONE, 3000))
    engine = WaitingEngine(slow=3000)
    while lane.ready:
        lane.turn(engine, lambda: False)
    if end == "cancelled":
        items[0].cancelled = True
    else:
        items[0].deadline = 0.0
    assert lane.ready
    lane.turn(engine, lambda: False)
    assert (lane.pending, lane.tokens) == (False, 0)
    assert [type(result.error) for result in found.values()] == [DeadlineError] * (end == "late")


def test_a_queue_sleeps_while_disks_are_behind_and_wakes_with_them() -> None:
    queue = BatchQueue(1000, 1000, 8, documents=DocumentLimits(1000, 20_000, turn_s=0.0))
    queue.put([WorkItem([0] * 2000)])
    engine: Any = WaitingEngine(slow=2000)
    lane = queue.documents
    assert lane is not None
    waited = threading.Event()

    def work() -> None:
        while queue.wait():
            lane.turn(engine, lambda: False)
        waited.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_until(lambda: engine.behind)
    queue.close()
    assert not waited.wait(0.3), "a closed queue with a document is not finished"
    for _ in range(2):  # behind each of its two steps
        wait_until(lambda: engine.behind)
        engine.behind = False
        engine.wake()
    assert waited.wait(60)
    assert queue.finished


def test_steps_are_short_beside_batches_that_are_short() -> None:
    pace = Pace(turn_s=0.01)
    assert pace.tokens() == LEAST
    for _ in range(50):
        pace.observe_step(1000, 0.002)
    assert pace.tokens() == pytest.approx(5000, rel=1e-3)
    for _ in range(50):
        pace.observe_batch(0.004)
    assert pace.tokens() == pytest.approx(1000, rel=1e-3), "half the time of a batch"
    for _ in range(50):
        pace.observe_batch(1.0)
    assert pace.tokens() == pytest.approx(5000, rel=1e-3), "but no longer than a turn"
    pace.observe_batch(0.0)
    for _ in range(50):
        pace.observe_batch(0.0)
    assert pace.tokens() == LEAST


def test_a_document_that_fails_fails_alone() -> None:
    class Failing(StepEngine):
        def stream(self, ids: Sequence[int], *rest: Any) -> Generator[Progress, None, Document]:
            if len(ids) == 3000:
                raise RuntimeError("broken")
            return super().stream(ids, *rest)

    lane, _, found = lane_of((ONE, 3000), (ONE, 2000))
    run(lane, Failing())
    assert found[2000].error is None
    assert isinstance(found[3000].error, BackendError)
