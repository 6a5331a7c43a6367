"""Lines of the log reach their reader in order, and nobody waits for one that does not read."""

from __future__ import annotations

import faulthandler
import functools
import gc
import io
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, TextIO

import pytest

from osa.service.observability.log_writer import DROPPED, MAX_BYTES, LogWriter
from osa.service.observability.logs import JsonFormatter
from tests.conftest import PATIENCE_S, wait_until


class Pipe(NamedTuple):
    read_end: int
    stream: TextIO


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe in place of standard error."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        yield Pipe(read_end, stream)
    os.close(read_end)


def start(stream: TextIO | None) -> tuple[logging.Logger, LogWriter]:
    logger, writer = logging.Logger("test"), LogWriter(stream)
    writer.setFormatter(JsonFormatter())
    logger.addHandler(writer)
    return logger, writer


def read_lines(read_end: int, last: str) -> list[dict[str, object]]:
    """Lines up to the first with this message."""
    data = b""
    while last.encode() not in data or not data.endswith(b"\n"):
        data += os.read(read_end, 1 << 20)
    return [json.loads(line) for line in data.splitlines()]


def test_lines_arrive_whole_and_in_order(pipe: Pipe) -> None:
    logger, writer = start(pipe.stream)
    for number in range(2000):
        logger.info("line", extra={"number": number})
    logger.info("the last")
    lines = read_lines(pipe.read_end, "the last")
    assert [line.get("number") for line in lines] == [*range(2000), None]
    writer.close()


def test_a_pipe_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    logger, writer = start(pipe.stream)
    for number in range(300):  # four times what a pipe holds
        logger.info("x" * 1000, extra={"number": number})
    time.sleep(0.1)
    logger.info("the last")
    lines = read_lines(pipe.read_end, "the last")
    assert [line.get("number") for line in lines] == [*range(300), None]
    assert writer.dropped == 0
    writer.close()


def test_who_logs_does_not_wait_for_a_reader_and_is_told_what_was_lost(pipe: Pipe) -> None:
    logger, writer = start(pipe.stream)
    began = time.monotonic()
    for number in range(20_000):
        logger.info("x" * 1000, extra={"number": number})
    assert time.monotonic() - began < PATIENCE_S  # nobody reads before this
    assert writer.dropped > 1000
    kept = 20_000 - writer.dropped
    lines = read_lines(pipe.read_end, DROPPED)
    assert [line["number"] for line in lines[:kept]] == list(range(kept))
    assert (lines[kept]["message"], lines[kept]["lines"]) == (DROPPED, writer.dropped)
    assert sum(len(json.dumps(line)) for line in lines) < MAX_BYTES + 200_000
    logger.info("again")
    assert read_lines(pipe.read_end, "again")[-1]["message"] == "again"
    writer.close()


def test_a_signal_handler_may_log_while_its_thread_logs(pipe: Pipe) -> None:
    """Nor does a record get lost where one logs within another's way to the queue."""
    logger, writer = start(pipe.stream)
    logged = 0

    def log(number: int, frame: object) -> None:
        nonlocal logged
        logged += 1
        logger.info("from the handler")

    before = signal.signal(signal.SIGALRM, log)
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for _ in range(3000):
            logger.info("from the loop")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    assert logged > 50
    logger.info("the last")
    lines = read_lines(pipe.read_end, "the last")
    assert len(lines) == 3000 + logged + 1
    writer.close()


def test_a_finalizer_may_log_on_any_thread(pipe: Pipe) -> None:
    """The garbage collector runs them wherever something is allocated, in the writer too."""
    logger, writer = start(pipe.stream)
    finalized, stop = 0, threading.Event()

    class Logs:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            logger.info("from a finalizer")

    def log() -> None:
        while not stop.is_set():
            Logs()
            logger.info("from a thread")

    def beyond(count: int) -> bool:
        return finalized > count

    def read() -> None:
        while not stop.is_set():
            os.read(pipe.read_end, 1 << 20)

    threads = [threading.Thread(target=run, daemon=True) for run in (log, log, read)]
    before = gc.get_threshold()
    try:
        gc.set_threshold(5, 1, 1)
        for thread in threads:
            thread.start()
        for _ in range(8):
            seen = finalized
            wait_until(functools.partial(beyond, seen + 200))
    finally:
        gc.set_threshold(*before)
        stop.set()
    logger.info("the last")
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    writer.close()


def test_the_end_waits_for_what_is_not_written_but_not_for_ever(pipe: Pipe) -> None:
    logger, writer = start(pipe.stream)
    logger.info("short")
    writer.flush()
    assert b"short" in os.read(pipe.read_end, 10_000)
    for _ in range(300):
        logger.info("x" * 1000)
    ended = threading.Event()

    def end() -> None:
        writer.flush()
        writer.close()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    assert ended.wait(30)
    while len(os.read(pipe.read_end, 1 << 20)) == 1 << 16:
        pass  # so that the thread ends


def test_a_reader_that_has_gone_costs_the_lines_alone() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        logger, writer = start(stream)
        os.close(read_end)
        for _ in range(10):
            logger.info("nobody reads this")
        wait_until(lambda: writer.dropped == 10)
        writer.close()


def test_it_never_writes_to_a_file_that_took_its_number(pipe: Pipe) -> None:
    logger, writer = start(pipe.stream)
    number = pipe.stream.fileno()
    first, (read_end, write_end) = os.dup(number), os.pipe()
    try:
        os.dup2(write_end, number)  # as after a close: the number is the other pipe's
        logger.info("the last")
        assert read_lines(pipe.read_end, "the last")
        os.set_blocking(read_end, False)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
    finally:
        writer.close()
        for file in (first, read_end, write_end):
            os.close(file)


def test_without_standard_error_every_line_is_dropped() -> None:
    logger, writer = start(None)
    logger.info("nowhere")
    wait_until(lambda: writer.dropped == 1)
    writer.close()


def test_a_record_that_cannot_be_written_is_counted() -> None:
    stream = io.StringIO()
    logger, writer = start(stream)
    logger.info("%d", "no number")
    logger.info("fine")
    writer.flush()
    assert json.loads(stream.getvalue().splitlines()[0])["message"] == "fine"
    assert writer.dropped == 1
    writer.close()
