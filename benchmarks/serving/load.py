"""The load: closed loops and open ones, every answer checked as it comes.

In a closed loop a fixed number of clients each send their next request when the last one has been
answered: it measures what a server can do. In an open loop requests come when they come (Poisson),
whatever the server does: it measures what its callers get.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.serving.connection import Connection, ProtocolError, Reply, Request

Verdict = Literal["right", "wrong", "refused", "failed", "late", "lost"]
"""Of an answer: right, a wrong vector, 429 or 503, any other status, not there by its deadline, or
no answer at all."""
REFUSALS = (429, 503)
PATIENCE_S = 60.0
"""How long a client of a closed loop waits: a server that hangs must not hang the run."""


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes:
        text: Place of its text in the corpus.
        verdict: How it ended.
        due_s: When it was to be sent, from the start of the load [s].
        latency_s: From then to the last byte of the answer [s].
        status: HTTP status; 0 where there was none.
        retry_after: Whether the answer says when to come back.
    """

    text: int
    verdict: Verdict
    due_s: float
    latency_s: float
    status: int = 0
    retry_after: bool = False


@dataclass(frozen=True)
class Target:
    """A server under load, as the generator sees it.

    Attributes:
        port: Port on this machine.
        request: From a text's place to the request for it.
        check: From a text's place and its answer's body to whether the vector is right.
    """

    port: int
    request: Callable[[int], Request]
    check: Callable[[int, bytes], bool]


@dataclass
class Load:
    """Every outcome of one load.

    Attributes:
        outcomes: In the order in which they ended.
        duration_s: Length of the window in which requests were sent [s].
    """

    outcomes: list[Outcome] = field(default_factory=list)
    duration_s: float = 0.0

    def count(self, *verdicts: Verdict) -> int:
        """How many ended so."""
        return sum(outcome.verdict in verdicts for outcome in self.outcomes)

    def latencies_s(self) -> np.ndarray:
        """Latencies of right answers, sorted [s]."""
        return np.sort([one.latency_s for one in self.outcomes if one.verdict == "right"])


def arrivals(rate: float, duration_s: float, seed: int) -> list[float]:
    """Times of a Poisson process of ``rate`` a second, within ``duration_s`` [s]."""
    generator = np.random.default_rng(seed)
    times: list[float] = []
    now = 0.0
    while (now := now + float(generator.exponential(1 / rate))) < duration_s:
        times.append(now)
    return times


async def closed_loop(
    target: Target, texts: Sequence[int], clients: int, duration_s: float
) -> Load:
    """So many clients send ``texts`` over and over for ``duration_s``, and wait for the rest."""
    load = Load()
    order = itertools.cycle(texts)
    began = time.monotonic()

    async def client() -> None:
        connection = Connection(target.port)
        while (now := time.monotonic()) < began + duration_s:
            outcome = await _ask(target, connection, next(order), now, began, PATIENCE_S)
            load.outcomes.append(outcome)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.duration_s = time.monotonic() - began
    return load


async def open_loop(
    target: Target, texts: Iterable[int], times: Sequence[float], deadline_s: float
) -> Load:
    """Send a request at each of ``times``; a client gives up ``deadline_s`` after it.

    A request that is sent late because the generator was late counts from when it was due.
    """
    load = Load(duration_s=times[-1] if times else 0.0)
    idle: list[Connection] = []
    tasks: set[asyncio.Task[None]] = set()
    began = time.monotonic()

    async def one(text: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(target.port)
        load.outcomes.append(await _ask(target, connection, text, due, began, deadline_s))
        idle.append(connection)

    for text, offset in zip(texts, times, strict=False):
        due = began + offset
        if (wait_s := due - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(one(text, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return load


async def abandon(target: Target, texts: Sequence[int], after_s: float) -> int:
    """Send all of ``texts`` at once and leave after ``after_s``; how many had been answered."""

    async def one(text: int) -> None:
        connection = Connection(target.port)
        try:
            await connection.send(target.request(text))
        finally:
            connection.close()

    tasks = [asyncio.create_task(one(text)) for text in texts]
    done, pending = await asyncio.wait(tasks, timeout=after_s)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sum(task.exception() is None for task in done)


async def _ask(
    target: Target,
    connection: Connection,
    text: int,
    due: float,
    began: float,
    deadline_s: float,
) -> Outcome:
    left_s = max(0.0, due + deadline_s - time.monotonic())
    status, retry_after = 0, False
    verdict: Verdict
    try:
        async with asyncio.timeout(left_s):
            reply = await connection.send(target.request(text))
    except TimeoutError:
        verdict = "late"
    except (OSError, ProtocolError):
        verdict = "lost"
    else:
        status, retry_after = reply.status, "retry-after" in reply.headers
        verdict = _judge(target, text, reply)
    return Outcome(text, verdict, due - began, time.monotonic() - due, status, retry_after)


def _judge(target: Target, text: int, reply: Reply) -> Verdict:
    if reply.status == 200:
        return "right" if target.check(text, reply.body) else "wrong"
    return "refused" if reply.status in REFUSALS else "failed"
