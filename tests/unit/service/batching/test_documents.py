"""The lane of long inputs: turns of tenants, bounds, and what becomes of documents given up."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from osa.model.layers.pooling import EmbeddingOutput
from osa.model.streaming.encoding import Document
from osa.model.streaming.passes import Progress, StreamOptions
from osa.service.auth.tenants import Tenant
from osa.service.batching.documents import DocumentLane, DocumentLimits
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.errors import BackendError, DeadlineError, OverloadedError, TooManyTokensError

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
