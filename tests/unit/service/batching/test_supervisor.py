"""Engines that fail, hang or run out of memory are detected and replaced; inputs are answered."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from osa.model.errors import ConfigError
from osa.model.sequences import InputRows
from osa.service.batching import supervisor as supervision
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.fair_lock import FairLock, Flow
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.supervisor import EngineSupervisor
from osa.service.batching.worker import EngineThread
from osa.service.engines.base import Details, Engine, EngineOutput
from osa.service.engines.eager import EagerEngine
from osa.service.errors import BackendError, DeviceFaultError, UnavailableError
from osa.service.observability.metrics import Metrics
from osa.service.server_settings import EngineSettings
from tests.conftest import wait_until
from tests.engines import POISON, FaultyEngine, How


class MisbehavingEngine(EagerEngine):
    """The real engine, which fails or hangs on given ids."""

    def __init__(self, path: Path, on: int, what: str) -> None:
        super().__init__(path, "cpu")
        self.on, self.what = on, what
        self.let_go = threading.Event()
        self.thread: int | None = None
        self.sizes: list[int] = []

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        self.sizes.append(sum(map(len, sequences)))
        if self.what == "memory" and self.sizes[-1] > self.on:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        if self.what == "break":
            raise RuntimeError("weights are gone")
        if self.what == "fault":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if any(self.on in ids for ids in sequences):
            self.thread = threading.get_ident()
            while not (self.let_go.is_set() if self.what == "spin" else self.let_go.wait(0.01)):
                pass
        output = super().embed(sequences, details)
        if self.what == "narrow" and not exact:
            return EngineOutput(np.full_like(output.embeddings, np.nan), output.norms)
        return output


class Setting:
    """A supervisor with its queue and everything that was delivered."""

    def __init__(self, first: Engine, *later: Engine | Exception, hang_s: float = 30.0) -> None:
        self.queue = BatchQueue(10_000, 100, 100)
        self.metrics = Metrics("m")
        self.later = list(later)
        self.supervisor = EngineSupervisor(
            first, self.reopen, self.queue, self.metrics, EngineSettings(hang_timeout_s=hang_s)
        )
        self.supervisor.start()

    def reopen(self) -> Engine:
        engine = self.later.pop(0)
        if isinstance(engine, Exception):
            raise engine
        return engine

    def send(self, *sequences: Sequence[int]) -> list[ItemResult]:
        """Queue all inputs together; results are appended to the returned list."""
        received: list[ItemResult] = []
        self.queue.put([WorkItem(ids, received.append) for ids in sequences])
        return received

    def works(self) -> None:
        """Whether a new input gets its vector."""
        received = self.send([2, 4, 3])
        wait_until(lambda: len(received) == 1)
        assert received[0].error is None

    def restarts(self) -> str:
        text = self.metrics.render().decode()
        return next(line for line in text.splitlines() if line.startswith("osa_engine_restarts_t"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervision, "POLL_S", 0.02)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_thread_answers_its_batch_and_the_next_one_works(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "hang")
    setting = Setting(engine, EagerEngine(tiny_checkpoint, "cpu"))
    received = setting.send([9], [4, 5])
    wait_until(lambda: engine.thread is not None)
    later = setting.send([6])
    assert engine.thread is not None
    kill = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert kill(ctypes.c_ulong(engine.thread), ctypes.py_object(SystemExit)) == 1
    wait_until(lambda: len(received) == 2 and len(later) == 1)
    assert all(isinstance(result.error, BackendError) for result in received)
    assert later[0].error is None, "what waited was lost"
    setting.works()
    assert setting.supervisor.stop(10)
    assert setting.restarts().endswith(" 1.0")


def test_a_hung_batch_is_given_up_and_what_it_brings_late_is_dropped(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "hang")
    setting = Setting(engine, EagerEngine(tiny_checkpoint, "cpu"), hang_s=0.3)
    received = setting.send([9])
    wait_until(lambda: len(received) == 1)
    assert isinstance(received[0].error, BackendError)
    assert "hung" in str(received[0].error)
    assert setting.queue._in_progress == 0
    setting.works()
    engine.let_go.set()
    time.sleep(0.1)
    assert len(received) == 1, "a batch was answered twice"
    assert setting.supervisor.stop(10)


def test_a_spinning_batch_is_given_up_later_than_one_that_waits(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "spin")
    setting = Setting(engine, EagerEngine(tiny_checkpoint, "cpu"), hang_s=0.1)
    began = time.monotonic()
    received = setting.send([9])
    wait_until(lambda: len(received) == 1)
    assert "hung" in str(received[0].error)
    assert time.monotonic() - began > 0.9
    setting.works()
    engine.let_go.set()
    assert setting.supervisor.stop(10)


def test_an_engine_that_fails_on_everything_is_opened_again(tiny_checkpoint: Path) -> None:
    setting = Setting(
        MisbehavingEngine(tiny_checkpoint, 0, "break"), EagerEngine(tiny_checkpoint, "cpu")
    )
    for _ in range(3):
        received = setting.send([4, 5])
        wait_until(lambda found=received: len(found) == 1)  # type: ignore[misc]
        assert isinstance(received[0].error, BackendError)
    setting.works()
    assert setting.supervisor.stop(10)


def test_a_broken_device_fails_liveness_at_once_and_is_not_opened_again(
    tiny_checkpoint: Path,
) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 0, "fault")
    setting = Setting(engine, AssertionError("opened again"))
    received = setting.send(*[[4, 5]] * 64)
    wait_until(lambda: len(received) == 64)
    assert {type(result.error) for result in received} == {DeviceFaultError}
    assert len(engine.sizes) == 1, "an engine on a broken device was tried again"
    assert "illegal memory access" in (setting.supervisor.problem(150.0) or "")
    assert not setting.supervisor.up
    wait_until(lambda: setting.queue.finished)
    with pytest.raises(UnavailableError, match="the device failed"):
        setting.send([4])
    assert len(setting.later) == 1
    assert setting.supervisor.stop(10)


@pytest.mark.parametrize("how", get_args(How))
def test_inputs_that_fail_again_and_again_do_not_make_the_engine_broken(
    tiny_checkpoint: Path, how: How
) -> None:
    setting = Setting(FaultyEngine(tiny_checkpoint, how))
    for _ in range(7):
        received = setting.send([POISON])
        wait_until(lambda found=received: len(found) == 1)  # type: ignore[misc]
        assert isinstance(received[0].error, BackendError)
    setting.works()
    assert setting.supervisor.stop(10)
    assert setting.restarts().endswith(" 0.0")


def test_an_engine_that_does_not_come_back_is_tried_again_and_told(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "hang")
    good = EagerEngine(tiny_checkpoint, "cpu")
    setting = Setting(engine, *[ConfigError("no device")] * 4, good, hang_s=0.1)
    setting.send([9])
    wait_until(lambda: not setting.supervisor.up)
    wait_until(lambda: setting.supervisor.problem(0.0) is not None)
    assert "has not come back" in str(setting.supervisor.problem(0.0))
    wait_until(lambda: setting.supervisor.up)
    assert setting.supervisor.problem(60.0) is None
    setting.works()
    engine.let_go.set()
    assert setting.supervisor.stop(10)


def test_a_batch_without_memory_is_split_and_later_ones_are_planned_smaller(
    tiny_checkpoint: Path,
) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 40, "memory")
    setting = Setting(engine)
    received = setting.send(*[[4] * 10 for _ in range(10)])
    wait_until(lambda: len(received) == 10)
    assert [result.error for result in received] == [None] * 10
    assert engine.sizes[:2] == [100, 50]
    assert setting.queue.memory_limit.tokens <= 40
    engine.sizes.clear()
    again = setting.send(*[[4] * 10 for _ in range(10)])
    wait_until(lambda: len(again) == 10)
    assert max(engine.sizes) <= 40, "it has learned nothing"
    assert setting.supervisor.stop(10)


def test_a_row_that_is_not_finite_is_computed_in_float32(tiny_checkpoint: Path) -> None:
    setting = Setting(MisbehavingEngine(tiny_checkpoint, -1, "narrow"))
    received = setting.send([4, 5], [6])
    wait_until(lambda: len(received) == 2)
    assert all(result.embedding is not None for result in received)
    assert setting.supervisor.stop(10)


def test_stopping_in_the_middle_of_a_batch_answers_it(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "hang")
    setting = Setting(engine)
    received = setting.send([9])
    wait_until(lambda: engine.thread is not None)
    assert not setting.supervisor.stop(0.2)
    assert isinstance(received[0].error, BackendError)
    engine.let_go.set()


def test_a_batch_taken_while_its_thread_is_given_up_is_answered(tiny_checkpoint: Path) -> None:
    """The watchdog abandons the thread for its previous batch while it takes the next one."""

    class Slow(BatchQueue):
        thread: EngineThread

        def take(self) -> list[WorkItem]:
            batch = super().take()
            self.thread.abandon(BackendError("the engine thread hung on this batch"))
            return batch

    queue, received = Slow(1000, 100, 100), list[ItemResult]()
    engine = EagerEngine(tiny_checkpoint, "cpu")
    queue.thread = EngineThread(engine, queue, Metrics("m"), FairLock(), Flow())
    queue.put([WorkItem([2, 4, 3], received.append)])
    queue.thread.start()
    queue.thread.thread.join(10)
    assert [type(result.error) for result in received] == [BackendError]


def test_the_watchdog_outlives_whatever_opening_an_engine_raises(tiny_checkpoint: Path) -> None:
    good = EagerEngine(tiny_checkpoint, "cpu")
    setting = Setting(MisbehavingEngine(tiny_checkpoint, 0, "break"), ValueError("bad file"), good)
    for _ in range(3):
        received = setting.send([4, 5])
        wait_until(lambda found=received: len(found) == 1)  # type: ignore[misc]
    setting.works()
    assert setting.supervisor.stop(10)


def test_stopping_answers_what_still_waits_and_lets_the_engine_go(tiny_checkpoint: Path) -> None:
    engine = MisbehavingEngine(tiny_checkpoint, 9, "hang")
    setting = Setting(engine)
    in_progress = setting.send([9])
    wait_until(lambda: engine.thread is not None)
    waiting = setting.send([4], [5])
    assert not setting.supervisor.stop(0.1)
    assert [type(result.error) for result in in_progress + waiting] == [BackendError] * 3
    engine.let_go.set()
    seen = weakref.ref(engine)
    del engine
    wait_until(lambda: gc.collect() >= 0 and seen() is None)
