"""The engine thread: every item is delivered once, and only failing ones get an error."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.supervisor import EngineSupervisor
from osa.service.engines.base import Engine
from osa.service.engines.eager import EagerEngine
from osa.service.errors import BackendError, ClientGoneError, DeadlineError
from osa.service.observability.metrics import Metrics
from osa.service.server_settings import EngineSettings
from tests.conftest import PATIENCE_S, wait_until
from tests.engines import POISON, FaultyEngine, GatedEngine, How

SEQUENCES = [[2, 4, 3], [2, 5, 3], [2, 4, 5, 6, 3], [2, 6, 3], [2, 7, 3]]


def make_worker(
    engine: Engine, queue: BatchQueue, metrics: Metrics | None = None, hang_timeout_s: float = 30.0
) -> EngineSupervisor:
    """A supervisor that opens the same engine again."""
    settings = EngineSettings(hang_timeout_s=hang_timeout_s)
    return EngineSupervisor(engine, lambda: engine, queue, metrics or Metrics("m"), settings)


def run_worker(
    engine: EagerEngine, sequences: Sequence[Sequence[int]], deadlines: Sequence[float] = ()
) -> list[list[ItemResult]]:
    """All results delivered to each item."""
    queue = BatchQueue(10_000, 10_000, 100)
    worker = make_worker(engine, queue)
    received: list[list[ItemResult]] = [[] for _ in sequences]
    queue.put(
        [
            WorkItem(ids, box.append, due)
            for ids, box, due in zip(
                sequences, received, deadlines or [math.inf] * len(sequences), strict=True
            )
        ]
    )
    worker.start()
    assert worker.stop(timeout_s=PATIENCE_S)
    return received


def test_every_item_gets_its_own_vector(tiny_checkpoint: Path) -> None:
    engine = EagerEngine(tiny_checkpoint, "cpu")
    received = run_worker(engine, SEQUENCES)
    assert [len(box) for box in received] == [1] * len(SEQUENCES)
    for ids, (result,) in zip(SEQUENCES, received, strict=True):
        alone = engine.embed([ids])
        assert result.embedding is not None
        np.testing.assert_allclose(result.embedding, alone.embeddings[0], atol=1e-6)
        assert result.norm == pytest.approx(float(alone.norms[0]), rel=1e-5)


@pytest.mark.parametrize("how", get_args(How))
def test_batch_mates_of_a_failing_input_succeed(tiny_checkpoint: Path, how: How) -> None:
    engine = FaultyEngine(tiny_checkpoint, how)
    sequences = [*SEQUENCES, [2, POISON, 3]]
    received = run_worker(engine, sequences)
    assert all(len(box) == 1 for box in received)
    *fine, (failed,) = received
    assert all(box[0].error is None and box[0].embedding is not None for box in fine)
    assert isinstance(failed.error, BackendError)
    assert failed.embedding is None
    assert engine.batches[0] == len(sequences)
    assert engine.batches[-1] == 1, "the failing input was not tried alone"


def test_late_items_are_answered_and_not_computed(tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    engine.gate.set()
    received = run_worker(engine, SEQUENCES[:2], [time.monotonic() - 1, math.inf])
    assert isinstance(received[0][0].error, DeadlineError)
    assert received[1][0].error is None
    assert engine.computed == [SEQUENCES[1]]


def test_cancelled_items_of_the_batch_are_answered_and_not_computed(tiny_checkpoint: Path) -> None:
    engine = GatedEngine(tiny_checkpoint)
    engine.gate.set()
    queue = BatchQueue(100, 100, 100)
    received: list[ItemResult] = []
    item = WorkItem([2, 4, 3], received.append)
    queue.put([item])
    item.cancelled = True
    worker = make_worker(engine, queue)
    worker.start()
    assert worker.stop(timeout_s=PATIENCE_S)
    assert isinstance(received[0].error, ClientGoneError)
    assert engine.computed == []


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_a_batch_without_results_is_in_progress_no_longer(
    tiny_checkpoint: Path, ended: str
) -> None:
    """Else an idle engine refuses who could be served in time."""
    queue = BatchQueue(10_000, 1000, 100)
    queue.observe(1000, 1.0)
    received: list[ItemResult] = []
    item = WorkItem([POISON] * 200, received.append)
    queue.put([item])
    item.cancelled = ended == "cancelled"
    worker = make_worker(FaultyEngine(tiny_checkpoint, "raise"), queue)
    worker.start()
    wait_until(lambda: len(received) == 1)
    assert received[0].error is not None
    queue.put([WorkItem([4] * 200, received.append, time.monotonic() + 0.22)])
    worker.stop(timeout_s=PATIENCE_S)


def test_the_thread_outlives_a_receiver_that_is_gone(tiny_checkpoint: Path) -> None:
    def closed(result: ItemResult) -> None:
        raise RuntimeError("Event loop is closed")

    queue = BatchQueue(100, 3, 100)
    received: list[ItemResult] = []
    queue.put([WorkItem([2, 4, 3], closed), WorkItem([2, 5, 3], received.append)])
    worker = make_worker(EagerEngine(tiny_checkpoint, "cpu"), queue)
    worker.start()
    assert worker.stop(timeout_s=PATIENCE_S)
    assert [result.error for result in received] == [None]
