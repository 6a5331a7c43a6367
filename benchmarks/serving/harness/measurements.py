"""Measurements of one running server; each function generates its own load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from benchmarks.serving.harness.connection import Connection
from benchmarks.serving.harness.corpus import MIXED
from benchmarks.serving.harness.load_generator import (
    TIMEOUT_S,
    LoadResult,
    abandon,
    closed_loop,
    open_loop,
    poisson_arrivals,
)
from benchmarks.serving.harness.system_under_test import SystemUnderTest

CLIENTS = 32
ABANDONED, ABANDONED_AFTER_S = 96, 0.25
FRACTIONS = (0.3, 0.6, 0.9, 1.2)


@dataclass(frozen=True)
class Cost:
    """Result of a closed loop of ``CLIENTS`` clients on texts of one length.

    Attributes:
        cpu_ms: CPU time of the server's processes per text [ms].
        texts_per_s: Right answers per second.
        p50_ms: Median latency [ms].
        p95_ms: 95th percentile of the latency [ms].
        p99_ms: 99th percentile of the latency [ms].
        verdicts: Number of requests by verdict.
    """

    cpu_ms: float
    texts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Goodput:
    """Result of an open loop on texts of mixed lengths.

    Attributes:
        fraction: Offered load over the server's capacity.
        offered: Requests per second.
        good: Right answers within the deadline, per second.
        p50_ms: Median latency of right answers [ms].
        p95_ms: 95th percentile of their latency [ms].
        p99_ms: 99th percentile of their latency [ms].
        verdicts: Number of requests by verdict.
        statuses: Number of answers by HTTP status.
        without_retry_after: Number of 429 answers without Retry-After.
    """

    fraction: float
    offered: float
    good: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    verdicts: dict[str, int]
    statuses: dict[str, int]
    without_retry_after: int


def measure_cost(system: SystemUnderTest, key: int, warm_s: float, duration_s: float) -> Cost:
    """CPU time per text and latencies in a closed loop.

    Args:
        system: The server.
        key: Length of the texts [tokens], or ``MIXED``.
        warm_s: Duration of the same load before the measurement [s].
        duration_s: Duration of the measurement [s].
    """
    target, texts = system.target(key), system.texts(key)
    asyncio.run(closed_loop(target, texts, CLIENTS, warm_s))
    before = system.server.tree.cpu_s()
    load = asyncio.run(closed_loop(target, texts, CLIENTS, duration_s))
    spent = system.server.tree.cpu_s() - before
    right = load.count("right")
    return Cost(
        1000 * spent / right if right else float("nan"),
        right / load.duration_s,
        *_percentiles_ms(load),
        _verdicts(load),
    )


def measure_goodput(
    system: SystemUnderTest, capacity: float, fraction: float, duration_s: float, deadline_s: float
) -> Goodput:
    """Right answers in time when requests arrive at ``fraction`` of ``capacity`` (Poisson).

    Args:
        system: The server.
        capacity: Measured capacity [texts/s].
        fraction: Offered load over capacity.
        duration_s: Time in which requests arrive [s].
        deadline_s: Time after which a client disconnects [s].
    """
    times = poisson_arrivals(capacity * fraction, duration_s, seed=round(100 * fraction))
    target, texts = system.target(MIXED, deadline_s), cycle(system.texts(MIXED))
    load = asyncio.run(open_loop(target, texts, times, deadline_s))
    statuses = Counter(str(one.status) for one in load.outcomes if one.status)
    silent = sum(one.status == 429 and not one.retry_after for one in load.outcomes)
    return Goodput(
        fraction,
        len(times) / duration_s,
        load.count("right") / duration_s,
        *_percentiles_ms(load),
        _verdicts(load),
        dict(statuses),
        silent,
    )


def measure_abandoned(system: SystemUnderTest, key: int) -> float:
    """Share of the work for ``ABANDONED`` requests that is computed after their clients have left.

    CPU time from the disconnection after ``ABANDONED_AFTER_S`` until the server is idle, over the
    CPU time of answering as many requests; idle CPU time is subtracted from both.

    Raises:
        TimeoutError: The server does not answer all requests, stays busy, or uses as much CPU time
            when idle.
    """
    tree = system.server.tree
    target, texts = system.target(key), system.texts(key)

    def spent_until_idle(since_s: float, before: float) -> float:
        system.wait_until_idle()
        return tree.cpu_s() - before - system.idle_share * (time.monotonic() - since_s)

    system.wait_until_idle()
    before, began = tree.cpu_s(), time.monotonic()
    answered = asyncio.run(abandon(target, texts[:ABANDONED], TIMEOUT_S))
    if answered < ABANDONED:
        raise TimeoutError(f"{answered} of {ABANDONED} requests answered within {TIMEOUT_S:g} s")
    whole = spent_until_idle(began, before)
    if whole <= 0:
        raise TimeoutError("the server uses as much CPU time when idle")
    asyncio.run(abandon(target, texts[ABANDONED : 2 * ABANDONED], ABANDONED_AFTER_S))
    before, began = tree.cpu_s(), time.monotonic()
    return max(0.0, spent_until_idle(began, before)) / whole


def measure_batch_invariance(system: SystemUnderTest, count: int, rounds: int) -> int:
    """Number of texts whose vectors change with batch composition, of ``count`` texts.

    Each text is sent alone, then ``rounds`` times together with all others in random order; vectors
    are compared bit by bit.

    Raises:
        TimeoutError: A request was not answered in time.
    """
    peer, port = system.server.peer, system.server.port
    requests = [peer.request(text) for text in system.corpora[MIXED].texts[:count]]
    generator = np.random.default_rng(0)

    async def vector_bits(index: int) -> bytes:
        connection = Connection(port)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await connection.send(requests[index])
        finally:
            connection.close()
        return peer.read(reply.body).tobytes() if reply.status == 200 else b""

    async def measure() -> int:
        alone = [await vector_bits(index) for index in range(count)]
        changed = set()
        for _ in range(rounds):
            order = [int(index) for index in generator.permutation(count)]
            answers = await asyncio.gather(*(vector_bits(index) for index in order))
            changed |= {
                index for index, bits in zip(order, answers, strict=True) if bits != alone[index]
            }
        return len(changed)

    return asyncio.run(measure())


def measure_idle(system: SystemUnderTest, duration_s: float) -> float:
    """Share of one core that the idle server uses, over ``duration_s`` [s]."""
    before = system.server.tree.cpu_s()
    time.sleep(duration_s)
    return (system.server.tree.cpu_s() - before) / duration_s


def _percentiles_ms(load: LoadResult) -> tuple[float, float, float]:
    latencies = load.latencies_s()
    if not len(latencies):
        return (float("nan"),) * 3
    p50, p95, p99 = (float(value) * 1000 for value in np.percentile(latencies, (50, 95, 99)))
    return p50, p95, p99


def _verdicts(load: LoadResult) -> dict[str, int]:
    return dict(Counter(one.verdict for one in load.outcomes))
