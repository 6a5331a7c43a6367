"""One batch ahead of a device: what is begun when, and that every input has one answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from osa.model.sequences import InputRows
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.fair_lock import FairLock, Flow
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.worker import EngineThread
from osa.service.engines.base import Details, Engine, EngineOutput
from osa.service.engines.eager import EagerEngine
from osa.service.errors import BackendError, ClientGoneError, DeviceFaultError
from osa.service.observability.metrics import Metrics
from tests.conftest import PATIENCE_S, wait_until

Batch = list[list[int]]


@dataclass
class DeviceEngine:
    """The real engine as a device: what is begun waits until the device has come to it.

    Attributes:
        real: What computes.
        log: What happened, in order.
        ready: Number of batches that the device has computed.
        refuse: Called with a batch before it is begun; may raise.
        fail: Called with a batch when it is waited for; may raise.
    """

    real: EagerEngine
    log: list[tuple[str, Batch]] = field(default_factory=list)
    ready: int = 0
    refuse: Callable[[Batch], None] = lambda batch: None
    fail: Callable[[Batch], None] = lambda batch: None
    stages_ahead: bool = True

    def __post_init__(self) -> None:
        self.info, self.tokenizer = self.real.info, self.real.tokenizer
        self._changed = threading.Condition()

    def finish(self, count: int = 1) -> None:
        """Let the device end so many batches more."""
        with self._changed:
            self.ready += count
            self._changed.notify_all()

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        batch = [list(row) for row in sequences]
        self.log.append(("embed", batch))
        self.fail(batch)
        return self.real.embed(sequences, details, exact)

    def begin(self, sequences: InputRows, details: Details | None = None) -> _Begun:
        batch = [list(row) for row in sequences]
        self.refuse(batch)
        self.log.append(("begin", batch))
        number = sum(what == "begin" for what, _ in self.log)
        return _Begun(self, batch, details, number)


@dataclass
class _Begun:
    engine: DeviceEngine
    batch: Batch
    details: Details | None
    number: int

    def is_ready(self) -> bool:
        return self.engine.ready >= self.number

    def wait(self) -> EngineOutput:
        with self.engine._changed:
            assert self.engine._changed.wait_for(self.is_ready, PATIENCE_S), "never computed"
        self.engine.log.append(("end", self.batch))
        self.engine.fail(self.batch)
        return self.engine.real.embed(self.batch, self.details)


class Setting:
    """A queue whose batches have two items of three tokens, and the thread of an engine."""

    def __init__(self, checkpoint: Path) -> None:
        self.engine = DeviceEngine(EagerEngine(checkpoint, "cpu"))
        self.queue = BatchQueue(1000, 6, 100)
        self.lock = FairLock()
        engine = cast("Engine", self.engine)  # it is opened and warmed up
        self.thread = EngineThread(engine, self.queue, Metrics("m"), self.lock, Flow())
        self.received: dict[int, list[ItemResult]] = {}

    def put(self, *ids: int) -> list[WorkItem]:
        """Queue an input for each id."""
        items = []
        for number in ids:
            box = self.received.setdefault(number, [])
            items.append(WorkItem([2, number, 3], box.append))
        self.queue.put(items)
        return items

    def finish(self) -> None:
        """Everything is computed, and the thread ends."""
        self.queue.close()
        self.engine.finish(100)
        self.thread.thread.join(PATIENCE_S)
        assert not self.thread.thread.is_alive()
        assert self.thread.batch is None

    def errors(self) -> dict[int, type | None]:
        """Of each input its error; asserts that it was answered once."""
        assert all(len(box) == 1 for box in self.received.values()), self.received
        return {
            number: None if box[0].error is None else type(box[0].error)
            for number, box in self.received.items()
        }


@pytest.fixture
def setting(tiny_checkpoint: Path) -> Setting:
    return Setting(tiny_checkpoint)


def rows(*ids: int) -> Batch:
    return [[2, number, 3] for number in ids]


def test_the_next_batch_is_begun_while_the_device_computes(setting: Setting) -> None:
    setting.put(4, 5, 6, 7, 8)
    setting.thread.start()
    wait_until(lambda: len(setting.engine.log) == 2)
    time.sleep(0.05)
    assert setting.engine.log == [("begin", rows(4, 5)), ("begin", rows(6, 7))], (
        "one ahead, not two"
    )
    assert not any(setting.received.values())
    setting.finish()
    assert [what for what, _ in setting.engine.log] == [
        "begin",
        "begin",
        "end",
        "begin",
        "end",
        "end",
    ]
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7, 8))
    for number, (result,) in setting.received.items():
        assert result.embedding is not None
        alone = setting.engine.real.embed([[2, number, 3]]).embeddings[0]
        np.testing.assert_allclose(result.embedding, alone, atol=1e-6)
        assert result.queued_s >= 0


def test_less_than_a_batch_waits_for_more_until_the_device_is_about_to_end(
    setting: Setting,
) -> None:
    setting.queue.observe(6, 4.0)  # a batch is expected to take four seconds
    setting.put(4, 5, 6)
    setting.thread.start()
    wait_until(lambda: len(setting.engine.log) == 1)
    setting.put(7)
    wait_until(lambda: len(setting.engine.log) == 2, 30.0)
    assert setting.engine.log[1] == ("begin", rows(6, 7))
    setting.finish()
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7))


def test_a_device_that_is_ready_is_not_kept_waiting(setting: Setting) -> None:
    setting.queue.observe(6, 30.0)
    setting.engine.finish(100)
    setting.put(4, 5, 6)
    began = time.monotonic()
    setting.thread.start()
    setting.finish()
    assert time.monotonic() - began < 10.0
    assert setting.errors() == dict.fromkeys((4, 5, 6))


def test_what_cannot_be_begun_fails_alone_when_its_turn_comes(setting: Setting) -> None:
    def refuse(batch: Batch) -> None:
        if [2, 9, 3] in batch:
            raise RuntimeError("illegal instruction")

    setting.engine.refuse = setting.engine.fail = refuse
    setting.put(4, 5, 6, 9, 7)
    setting.thread.start()
    setting.finish()
    assert setting.errors() == {4: None, 5: None, 6: None, 9: BackendError, 7: None}


def test_a_batch_that_runs_out_of_memory_is_halved(setting: Setting) -> None:
    def fail(batch: Batch) -> None:
        if len(batch) > 1:
            raise MemoryError

    setting.engine.fail = fail
    setting.put(4, 5, 6, 7)
    setting.thread.start()
    setting.finish()
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7))
    assert setting.queue.memory_limit.tokens == 3


def test_what_is_behind_a_batch_that_breaks_the_device_is_answered(setting: Setting) -> None:
    def fail(batch: Batch) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    setting.engine.fail = fail
    setting.put(4, 5, 6, 7)
    setting.thread.start()
    wait_until(lambda: len(setting.engine.log) == 2)
    setting.engine.finish(100)
    setting.thread.thread.join(PATIENCE_S)
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7), DeviceFaultError)
    assert setting.thread.batch is None


def test_a_thread_that_is_given_up_answers_both(setting: Setting) -> None:
    setting.put(4, 5, 6, 7)
    setting.thread.start()
    wait_until(lambda: len(setting.engine.log) == 2)
    setting.thread.abandon(BackendError("the engine thread hung on this batch"))
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7), BackendError)
    setting.finish()
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7), BackendError)
    setting.lock.release(setting.lock.acquire(Flow()))  # it is free


def test_nothing_is_begun_ahead_where_another_model_waits(setting: Setting) -> None:
    setting.put(4, 5, 6, 7)
    ticket = setting.lock.acquire(Flow())
    setting.thread.start()
    other = threading.Thread(
        target=lambda: setting.lock.release(setting.lock.acquire(Flow(used_s=1.0))), daemon=True
    )
    other.start()
    wait_until(lambda: len(setting.lock._waiting) == 2)
    setting.lock.release(ticket)
    wait_until(lambda: len(setting.engine.log) == 1)
    time.sleep(0.05)
    assert setting.engine.log == [("begin", rows(4, 5))]
    setting.finish()
    other.join(PATIENCE_S)
    assert setting.errors() == dict.fromkeys((4, 5, 6, 7))


def test_items_that_nobody_waits_for_are_not_begun(setting: Setting) -> None:
    (item, *_) = setting.put(4, 5, 6)
    item.cancelled = True
    setting.thread.start()
    setting.finish()
    assert setting.engine.log[0] == ("begin", rows(5))
    assert setting.errors() == {4: ClientGoneError, 5: None, 6: None}
