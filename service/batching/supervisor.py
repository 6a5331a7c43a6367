"""Supervises one model's engine thread: replaces it when it dies, hangs or gives up.

The batch in progress is answered with an error, the engine is opened again after a pause that
doubles with every failure in a row, and meanwhile the queue keeps what it has accepted. Hung is
judged by the engine thread's own CPU time, over time that this process ran (decision 30). A hung
thread cannot be ended from Python: it is left behind, and after ``MAX_LEFT_BEHIND`` of them the
liveness probe fails. An error that breaks the device for the whole process fails it at once:
nothing is opened again, and what is queued is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.fair_lock import FairLock, Flow
from osa.service.batching.item import ItemResult
from osa.service.batching.running_time import RUNNING, Stall
from osa.service.batching.worker import EngineThread, deliver
from osa.service.engines.base import Engine
from osa.service.errors import BackendError, DeviceFaultError
from osa.service.observability.metrics import RESTARTS, Metrics
from osa.service.observability.tracing import Tracing
from osa.service.server_settings import EngineSettings

logger = logging.getLogger(__name__)
POLL_S = 0.25
SLACK = 8.0
"""A batch counts as hung after this multiple of its estimated time, plus ``hang_timeout_s``, in
which its thread was idle; see ``Stall``."""
MAX_LEFT_BEHIND = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HEALTHY_BATCHES = 20
"""Batches after a restart that reset the pause."""


class EngineSupervisor:
    """Owns the engine of one model and the thread that runs it."""

    def __init__(
        self,
        engine: Engine,
        reopen: Callable[[], Engine],
        queue: BatchQueue,
        metrics: Metrics,
        settings: EngineSettings,
        lock: FairLock | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepare; ``start`` begins to take batches.

        Args:
            engine: Warmed up.
            reopen: Opens and warms up another one of the same model; raises OsaError.
            queue: Where batches come from.
            metrics: Of this model.
            settings: When a batch counts as hung.
            lock: The device, where several models share it.
            tracing: Records every batch.
        """
        self._reopen, self._queue, self._metrics = reopen, queue, metrics
        self._settings = settings
        self._device, self._flow = lock or FairLock(), Flow()
        self._tracing = tracing
        self._current = self._make(engine)
        self._down_since: float | None = None
        self._left_behind: list[threading.Thread] = []
        self._pause_s = FIRST_PAUSE_S
        self._stall = Stall()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="osa-watchdog", daemon=True)

    def start(self) -> None:
        """Start taking batches."""
        RUNNING.start()
        self._current.start()
        self._watchdog.start()

    def stop(self, timeout_s: float) -> bool:
        """Drain the queue for at most ``timeout_s`` [s]; returns whether it was emptied.

        What remains is answered with an error, and the engine is released.
        """
        deadline = time.monotonic() + timeout_s
        self._queue.close()
        while time.monotonic() < deadline and (self._queue.pending or self._current.batch):
            time.sleep(0.01)
        self._stopping.set()
        self._current.thread.join(max(0.0, deadline - time.monotonic()))
        finished = not self._current.thread.is_alive() and not self._queue.pending
        error = BackendError("the server stopped before this input was computed")
        self._current.abandon(error)
        rest = self._queue.drain()
        deliver(rest, [ItemResult(error=error) for _ in rest])
        return finished

    @property
    def up(self) -> bool:
        """Whether an engine is there to take batches."""
        return self._down_since is None and self._current.fault is None

    @property
    def computing(self) -> bool:
        """Whether a batch is in progress."""
        return self._current.batch is not None

    def problem(self, stall_timeout_s: float) -> str | None:
        """Why the process should be restarted, or None."""
        fault = self._current.fault
        if fault is not None:
            return f"{fault}: only a new process can use it"
        alive = sum(thread.is_alive() for thread in self._left_behind)
        if alive >= MAX_LEFT_BEHIND:
            return f"{alive} engine threads hang"
        down_since = self._down_since  # read once: the watchdog may clear it meanwhile
        if down_since is not None and RUNNING.now() - down_since > stall_timeout_s:
            return f"the engine has not come back for {RUNNING.now() - down_since:.0f} s"
        if self._current.batch is not None and self._stall.exceeds(stall_timeout_s):
            return f"one batch has been running for {self._stall.total_s:.0f} s"
        return None

    def _make(self, engine: Engine) -> EngineThread:
        return EngineThread(
            engine, self._queue, self._metrics, self._device, self._flow, self._tracing
        )

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            if self._current.fault is not None:
                self._refuse(self._current.fault)
                return
            reason = self._failure()
            if reason is not None:
                self._replace(reason)

    def _refuse(self, fault: DeviceFaultError) -> None:
        """Answer what is queued, and take nothing more."""
        self._down_since = RUNNING.now()
        logger.critical("nothing is computed until the process is restarted")
        self._queue.close(str(fault))
        rest = self._queue.drain()
        deliver(rest, [ItemResult(error=fault.again()) for _ in rest])

    def _failure(self) -> str | None:
        """What is wrong with the thread, or None."""
        if not self._current.thread.is_alive():
            return None if self._queue.finished else "died"
        batch = self._current.batch
        self._stall.poll(batch, self._current.work)
        if batch is None:
            return None
        allowed_s = self._settings.hang_timeout_s + SLACK * self._queue.expected_s(batch.tokens)
        return "hung" if self._stall.exceeds(allowed_s) else None

    def _replace(self, reason: str) -> None:
        failed = self._current
        self._down_since = RUNNING.now()
        logger.error("engine thread is replaced", extra={"reason": reason})
        failed.abandon(BackendError(f"the engine thread {reason} on this batch"))
        self._metrics.add(RESTARTS)
        if failed.thread.is_alive():
            self._left_behind.append(failed.thread)
        if failed.batches >= HEALTHY_BATCHES:
            self._pause_s = FIRST_PAUSE_S
        while not self._stopping.wait(self._pause_s):
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            try:
                replacement = self._make(self._reopen())
                if self._stopping.is_set():
                    return
                replacement.start()
            except Exception as error:  # the boundary: nobody watches the watchdog
                facts = {"kind": type(error).__name__, "reason": str(error)}
                logger.error("engine does not come back", extra=facts)
                continue
            self._current = replacement
            logger.info("engine is back", extra={"down_s": RUNNING.now() - self._down_since})
            self._down_since = None
            return
