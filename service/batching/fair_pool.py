"""Threads that several tenants share, whose work is begun in fair turns by the time it takes.

A tenant's own work is begun in the order in which it came. Among tenants with waiting work the one
with the least time used is next, as in ``fair_lock``. No HTTP.

The threads never keep the process alive. Those of ``concurrent.futures`` are joined when the
interpreter ends: a process that is told to end would wait for the longest text that somebody has
sent. Work that is waited for is joined by the drain; the rest is of no use.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from osa.service.auth.tenants import Tenant

Work = tuple[Future[Any], Callable[[], Any]]


class _Account:
    """What one tenant has waiting and running, and the time it has used over its weight [s]."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()
        self.running, self.used_s, self.weight = 0, 0.0, 1

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running


class FairPool:
    """A pool of threads; ``of`` is a tenant's executor."""

    def __init__(self, workers: int, name: str) -> None:
        """Prepare ``workers`` daemon threads of this name; the first piece of work starts them."""
        self._workers, self._name = workers, name
        self._turns: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False ends a thread
        self._started = self._closed = False
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._level_s = 0.0  # time used by whose work was begun last

    def of(self, tenant: Tenant) -> Executor:
        """What runs the work of a tenant."""
        return _Lane(self, tenant)

    def shutdown(self) -> None:
        """Begin no more work; what waits is cancelled, what runs is not waited for."""
        with self._lock:
            self._closed = True
            waiting = [work for account in self._accounts.values() for work in account.waiting]
            self._accounts.clear()
        for _ in range(self._workers):
            self._turns.put(False)
        for future, _ in waiting:
            future.cancel()

    def add(self, tenant: Tenant, work: Work) -> None:
        """Queue a tenant's work.

        Raises:
            RuntimeError: After ``shutdown``.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have ended")
            if not self._started:
                self._started = True
                for _ in range(self._workers):
                    threading.Thread(target=self._run, name=self._name, daemon=True).start()
            account = self._accounts.setdefault(tenant.identity, _Account())
            account.weight = tenant.weight
            if account.idle:
                account.used_s = max(account.used_s, self._level_s)
            account.waiting.append(work)
        self._turns.put(True)
        work[0].add_done_callback(functools.partial(self._drop, tenant))

    def _drop(self, tenant: Tenant, future: Future[Any]) -> None:
        """Forget work that was cancelled before it began, and with it the body that it holds."""
        if not future.cancelled():
            return
        with self._lock:
            account = self._accounts.get(tenant.identity)
            if account is not None:
                account.waiting = deque(work for work in account.waiting if work[0] is not future)

    def _run(self) -> None:
        while self._turns.get():
            self._run_next()

    def _run_next(self) -> None:
        """Run what is next, whose it may be: there is at least one call for every work."""
        with self._lock:
            able = [account for account in self._accounts.values() if account.waiting]
            if not able:
                return
            account = min(able, key=lambda account: account.used_s)
            self._level_s = max(self._level_s, account.used_s)
            future, work = account.waiting.popleft()
            account.running += 1
        started = time.monotonic()
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(work())
        except BaseException as error:  # for whoever waits
            future.set_exception(error)
        finally:
            with self._lock:
                account.running -= 1
                account.used_s += (time.monotonic() - started) / account.weight
                self._forget()
            del future, work  # an error holds this frame: they would hold it, and the body

    def _forget(self) -> None:
        """Forget tenants of whom nothing needs to be known any more."""
        busy = any(not account.idle for account in self._accounts.values())
        self._accounts = {
            identity: account
            for identity, account in self._accounts.items()
            if not account.idle or (busy and account.used_s > self._level_s)
        }
        if not busy:
            self._level_s = 0.0


class _Lane(Executor):
    """The executor of one tenant."""

    def __init__(self, pool: FairPool, tenant: Tenant) -> None:
        self._pool, self._tenant = pool, tenant

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call."""
        future: Future[Any] = Future()
        self._pool.add(self._tenant, (future, lambda: fn(*args, **kwargs)))
        return future
