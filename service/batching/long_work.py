"""Long work beside the engine: done in steps, with rests between them while the engine computes.

The threads that read large bodies, and the engine between its operators, need the same interpreter
and the same processors. A body of two megabytes holds the interpreter for 30 ms at a time; without
rests, a client that sends one after the other takes most of the engine's rate. A tenant's own work
rests while an engine computes, and while others have just sent something. No HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from osa.service.auth.tenants import Tenant

STEP_S = 0.002
"""Work of a thread that is worth a rest [s]."""
RESTS = 3.0
"""Rest after a step, over its time on a processor: long work takes a quarter of one processor, or
what the engine leaves idle."""
NAP_S = 0.01
"""How often a thread that rests looks whether the engine still computes [s]."""


class LongWork:
    """Takes turns with the engine; all threads that do long work share one."""

    def __init__(self, busy: Callable[[Tenant], bool]) -> None:
        """Rest while engines need the processors beside what a tenant has; any thread asks."""
        self._busy = busy
        self._rest_until = 0.0
        self._lock = threading.Lock()

    def begin(self, tenant: Tenant) -> Steps:
        """Begin a tenant's piece of work on this thread, after the rest that others have left."""
        self.rest(tenant)
        return Steps(self, tenant)

    def worked(self, tenant: Tenant, seconds: float) -> None:
        """Note a step of ``seconds`` [s] on a processor: nobody's next one begins before a rest.

        What was done while nothing else needed the processors asks for none.
        """
        if not self._busy(tenant):
            return
        with self._lock:
            start = max(time.monotonic(), self._rest_until)
            self._rest_until = start + RESTS * seconds

    def rest(self, tenant: Tenant) -> None:
        """Wait until the processors are free, or have been left alone for long enough."""
        while (left := self._rest_until - time.monotonic()) > 0 and self._busy(tenant):
            time.sleep(min(left, NAP_S))


class Steps:
    """The steps of one piece of work; used on the thread that made it."""

    def __init__(self, work: LongWork, tenant: Tenant) -> None:
        """The first step of a tenant's work begins."""
        self._work, self._tenant = work, tenant
        self._since = time.thread_time()

    def __call__(self) -> None:
        """Between two steps: rest, where the last ones were long enough."""
        if self.end():
            self._work.rest(self._tenant)
            self._since = time.thread_time()

    def end(self) -> bool:
        """Note what was done; whether it is worth a rest."""
        worked = time.thread_time() - self._since
        if worked < STEP_S:
            return False
        self._work.worked(self._tenant, worked)
        return True
