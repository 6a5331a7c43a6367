"""The thread that writes and reads states: order, bounds, errors, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osa.model.errors import ConfigError, SpillError
from osa.model.streaming import spill_thread
from osa.model.streaming.passes import StreamOptions
from osa.model.streaming.spill import SpillFile
from osa.model.streaming.spill_thread import SpillThread
from tests.conftest import wait_until
from tests.unit.model.streaming.test_streams import ids_of, make_model

KINDS = [((4,), torch.float32), ((2, 3), torch.bfloat16)]


class SlowDisk:
    """Writes begin when they are let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.writes = threading.Event(), 0
        written = SpillFile.write

        def write(file: SpillFile, first: int, rows: Tensor, check: Callable[[], None]) -> None:
            self.writes += 1
            assert self.free.wait(60)
            written(file, first, rows, check)

        monkeypatch.setattr(SpillFile, "write", write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk(monkeypatch)
    yield slow
    slow.free.set()


def rows_of(count: int, value: float) -> tuple[Tensor, ...]:
    return torch.full((count, 4), value), torch.full((count, 2, 3), value, dtype=torch.bfloat16)


def ask_and_take(files: SpillThread, count: int) -> tuple[Tensor, ...]:
    """The first rows; what went wrong before is told by either call, as the thread is fast."""
    files.ask(0, count)
    return files.take()


def wait_for(waits: Callable[[], bool]) -> None:
    wait_until(lambda: not waits())


def test_what_is_read_is_what_was_written_before() -> None:
    files = SpillThread(KINDS, None)
    for turn in (1.0, 2.0):
        for first in range(0, 30, 10):
            files.write(first, rows_of(10, turn + first))
        for first in (20, 0, 10):
            files.ask(first, 10)
        for first in (20, 0, 10):
            hidden, states = files.take()
            assert (hidden == turn + first).all()
            assert (states == turn + first).all()
            files.release(hidden, states)
    files.close()


def test_nobody_who_is_woken_waits_for_the_disk(
    disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = threading.Event()
    monkeypatch.setattr(spill_thread, "HELD", 1000)
    files = SpillThread(KINDS, None, woken.set)
    files.write(0, rows_of(10, 1.0))
    assert files.can_go_on(0), "a few rows wait in memory"
    files.write(10, rows_of(100, 1.0))
    assert not files.can_go_on(0), "no more than that"
    files.ask(0, 10)
    assert not files.can_go_on(1)
    assert not woken.is_set()
    disk.free.set()
    assert woken.wait(60)
    wait_until(lambda: files.can_go_on(1))
    assert (files.take()[0] == 1.0).all()
    files.close()


def test_a_full_disk_is_told_by_the_next_call(limit_files: Callable[[int], None]) -> None:
    limit_files(10_000)
    files = SpillThread(KINDS, None)
    files.write(0, rows_of(5000, 1.0))
    with pytest.raises(SpillError, match="cannot be written"):
        ask_and_take(files, 5000)
    with pytest.raises(SpillError, match="cannot be written"):
        files.write(0, rows_of(1, 1.0))
    files.close()


def test_what_breaks_otherwise_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(SpillFile, "read", fail)
    files = SpillThread(KINDS, None)
    with pytest.raises(SpillError, match="cannot be kept: broken"):
        ask_and_take(files, 1)
    files.close()


def test_a_directory_that_is_missing_leaves_nothing(
    open_files: Callable[[], int], tmp_path: Path
) -> None:
    before = open_files()
    with pytest.raises(ConfigError, match="cannot hold a long text"):
        SpillThread(KINDS, tmp_path / "missing")
    assert open_files() == before


def test_who_gives_up_waits_for_no_disk(disk: SlowDisk, open_files: Callable[[], int]) -> None:
    before = open_files()
    files = SpillThread(KINDS, None, lambda: None)
    for first in range(3):
        files.write(first, rows_of(1, 1.0))
    wait_until(lambda: disk.writes == 1)
    files.close()
    assert open_files() == before + 2, "a call of the system uses them"
    disk.free.set()
    wait_until(lambda: open_files() == before)
    assert disk.writes == 1, "the rest is not written"


def test_steps_say_that_they_wait_and_the_vector_is_the_same(disk: SlowDisk) -> None:
    model, ids = make_model(), ids_of(2000)
    disk.free.set()
    wanted = model.encode_stream([ids])
    disk.free.clear()
    woken = threading.Event()
    steps = model.stream([ids], options=StreamOptions(chunk=lambda: 256, wake=woken.set))
    seen = [next(steps)]
    while seen[-1].waits is None:
        seen.append(next(steps))
    assert sum(step.tokens for step in seen) == 2000, "the first pass needs no disk"
    assert next(steps).tokens == 0
    waits = seen[-1].waits
    assert waits is not None
    assert waits()
    disk.free.set()
    assert woken.wait(60)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            document = end.value
            break
        if step.waits is not None:
            wait_for(step.waits)
    assert torch.equal(document.output.embeddings[0], wanted)
