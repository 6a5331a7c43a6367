"""Load generator: closed loops and open loops, with every answer checked when it arrives.

In a closed loop a fixed number of clients each send their next request when the previous one has
been answered; this measures capacity. In an open loop requests arrive at random times (Poisson),
whatever the server does; this measures what clients experience.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.serving.harness.connection import Connection, ProtocolError, Reply, Request

Verdict = Literal["right", "wrong", "refused", "failed", "late", "lost"]
"""How a request ended: right vector, wrong vector, refused (429 or 503), failed (any other status),
late (no answer by the deadline), lost (connection error)."""
REFUSALS = (429, 503)
TIMEOUT_S = 60.0
"""Time limit of a request in a closed loop [s], so that a hanging server does not stop the run."""


@dataclass(frozen=True)
class Outcome:
    """How one request ended.

    Attributes:
        text: Index of its text in the corpus.
        verdict: How it ended.
        due_s: Scheduled time, from the start of the load [s].
        latency_s: Time from then to the last byte of the answer [s].
        status: HTTP status; 0 without an answer.
        retry_after: Whether the answer has a Retry-After header.
    """

    text: int
    verdict: Verdict
    due_s: float
    latency_s: float
    status: int = 0
    retry_after: bool = False


@dataclass(frozen=True)
class Target:
    """Destination of the load.

    Attributes:
        port: Port on this machine.
        request: From the index of a text to its request.
        check: From the index of a text and the answer's body to whether the vector is right.
    """

    port: int
    request: Callable[[int], Request]
    check: Callable[[int, bytes], bool]


@dataclass
class LoadResult:
    """All outcomes of one load.

    Attributes:
        outcomes: In the order in which the requests ended.
        duration_s: Duration of the window in which requests were sent [s].
    """

    outcomes: list[Outcome] = field(default_factory=list)
    duration_s: float = 0.0

    def count(self, *verdicts: Verdict) -> int:
        """Number of requests with one of these verdicts."""
        return sum(outcome.verdict in verdicts for outcome in self.outcomes)

    def latencies_s(self) -> np.ndarray:
        """Sorted latencies of right answers [s]."""
        return np.sort([one.latency_s for one in self.outcomes if one.verdict == "right"])


def poisson_arrivals(rate: float, duration_s: float, seed: int) -> list[float]:
    """Arrival times of a Poisson process of ``rate`` [1/s] within ``duration_s`` [s]."""
    generator = np.random.default_rng(seed)
    times: list[float] = []
    now = 0.0
    while (now := now + float(generator.exponential(1 / rate))) < duration_s:
        times.append(now)
    return times


async def closed_loop(
    target: Target, texts: Sequence[int], clients: int, duration_s: float
) -> LoadResult:
    """Clients send requests one after the other for ``duration_s``, then wait for the last ones.

    Args:
        target: The server.
        texts: Indexes of texts, which are repeated.
        clients: Number of clients.
        duration_s: Time in which requests are sent [s].
    """
    load = LoadResult()
    order = itertools.cycle(texts)
    began = time.monotonic()

    async def client() -> None:
        connection = Connection(target.port)
        while (now := time.monotonic()) < began + duration_s:
            outcome = await _send(target, connection, next(order), now, began, TIMEOUT_S)
            load.outcomes.append(outcome)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.duration_s = time.monotonic() - began
    return load


async def open_loop(
    target: Target, texts: Iterable[int], times: Sequence[float], deadline_s: float
) -> LoadResult:
    """Send a request at each of ``times``, whether or not earlier ones have been answered.

    Latencies count from the scheduled time, even if the generator itself is late.

    Args:
        target: The server.
        texts: Indexes of texts.
        times: Scheduled times from now [s], ascending.
        deadline_s: Time after which a client gives up [s].
    """
    load = LoadResult(duration_s=times[-1] if times else 0.0)
    idle: list[Connection] = []
    tasks: set[asyncio.Task[None]] = set()
    began = time.monotonic()

    async def one(text: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(target.port)
        load.outcomes.append(await _send(target, connection, text, due, began, deadline_s))
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
    """Send all texts at once and disconnect after ``after_s`` [s]; returns the number answered."""

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


async def _send(
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
        verdict = _classify(target, text, reply)
    return Outcome(text, verdict, due - began, time.monotonic() - due, status, retry_after)


def _classify(target: Target, text: int, reply: Reply) -> Verdict:
    if reply.status == 200:
        return "right" if target.check(text, reply.body) else "wrong"
    return "refused" if reply.status in REFUSALS else "failed"
