"""What is measured of one running server; each function makes its own load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from benchmarks.serving.connection import Connection
from benchmarks.serving.load import (
    PATIENCE_S,
    Load,
    abandon,
    arrivals,
    closed_loop,
    open_loop,
)
from benchmarks.serving.subject import MIXED, Subject

CLIENTS = 32
ABANDONED, ABANDONED_AFTER_S = 96, 0.25
FRACTIONS = (0.3, 0.6, 0.9, 1.2)


@dataclass(frozen=True)
class Cost:
    """A closed loop of ``CLIENTS`` on texts of one length.

    Attributes:
        cpu_ms: CPU time of the server's processes a text [ms].
        texts_per_s: Right answers a second.
        p50_ms: Median latency [ms]; p95_ms and p99_ms likewise.
        verdicts: How many answers ended how.
    """

    cpu_ms: float
    texts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Goodput:
    """An open loop at a share of the server's own capacity, mixed lengths.

    Attributes:
        fraction: Offered load over capacity.
        offered: Requests a second that came.
        good: Right answers within the deadline a second.
        p50_ms: Median latency of right answers [ms]; p95_ms and p99_ms likewise.
        verdicts: How many requests ended how.
        statuses: HTTP statuses.
        silent_refusals: 429 answers without Retry-After.
    """

    fraction: float
    offered: float
    good: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    verdicts: dict[str, int]
    statuses: dict[str, int]
    silent_refusals: int


def measure_cost(subject: Subject, key: int, warm_s: float, duration_s: float) -> Cost:
    """CPU time a text and latencies in a closed loop, after ``warm_s`` of the same."""
    target, texts = subject.target(key), subject.texts(key)
    asyncio.run(closed_loop(target, texts, CLIENTS, warm_s))
    before = subject.server.tree.cpu_s()
    load = asyncio.run(closed_loop(target, texts, CLIENTS, duration_s))
    spent = subject.server.tree.cpu_s() - before
    right = load.count("right")
    return Cost(
        1000 * spent / right if right else float("nan"),
        right / load.duration_s,
        *_percentiles_ms(load),
        _verdicts(load),
    )


def measure_goodput(
    subject: Subject, capacity: float, fraction: float, duration_s: float, deadline_s: float
) -> Goodput:
    """What callers get when requests come at ``fraction`` of ``capacity``, Poisson.

    Args:
        subject: The server.
        capacity: Texts a second that it was measured to do.
        fraction: Offered load over that.
        duration_s: How long requests come [s].
        deadline_s: When a caller gives up and closes its connection [s].
    """
    times = arrivals(capacity * fraction, duration_s, seed=round(100 * fraction))
    target, texts = subject.target(MIXED, deadline_s), cycle(subject.texts(MIXED))
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


def measure_abandoned(subject: Subject, key: int) -> float:
    """Share of the work of ``ABANDONED`` requests that is done after all their clients have left.

    CPU time from ``ABANDONED_AFTER_S`` on until the server is quiet, over that of as many
    requests answered, both without what it spends when idle.

    Raises:
        TimeoutError: The server does not answer them all, does not come to rest, or spends so
            much at rest that the work cannot be told from it.
    """
    tree = subject.server.tree
    target, texts = subject.target(key), subject.texts(key)

    def spent_until_quiet(since_s: float, before: float) -> float:
        subject.rest()
        return tree.cpu_s() - before - subject.idle * (time.monotonic() - since_s)

    subject.rest()
    before, began = tree.cpu_s(), time.monotonic()
    answered = asyncio.run(abandon(target, texts[:ABANDONED], PATIENCE_S))
    if answered < ABANDONED:
        raise TimeoutError(f"{answered} of {ABANDONED} requests answered within {PATIENCE_S:g} s")
    whole = spent_until_quiet(began, before)
    if whole <= 0:
        raise TimeoutError("the server spends as much when nobody asks")
    asyncio.run(abandon(target, texts[ABANDONED : 2 * ABANDONED], ABANDONED_AFTER_S))
    before, began = tree.cpu_s(), time.monotonic()
    return max(0.0, spent_until_quiet(began, before)) / whole


def measure_bits(subject: Subject, count: int, rounds: int) -> tuple[int, int]:
    """How many of ``count`` texts of mixed lengths change bits with their batch mates.

    Each text is asked for alone, then ``rounds`` times together with all others, in random order.

    Returns:
        Texts whose vector was ever other than alone, and texts asked.

    Raises:
        TimeoutError: An answer did not come.
    """
    peer, port = subject.server.peer, subject.server.port
    requests = [peer.request(text) for text in subject.corpora[MIXED].texts[:count]]
    generator = np.random.default_rng(0)

    async def ask(place: int) -> bytes:
        connection = Connection(port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply = await connection.send(requests[place])
        finally:
            connection.close()
        return peer.read(reply.body).tobytes() if reply.status == 200 else b""

    async def measure() -> int:
        alone = [await ask(place) for place in range(count)]
        changed = set()
        for _ in range(rounds):
            order = [int(place) for place in generator.permutation(count)]
            answers = await asyncio.gather(*(ask(place) for place in order))
            changed |= {
                place for place, bits in zip(order, answers, strict=True) if bits != alone[place]
            }
        return len(changed)

    return asyncio.run(measure()), count


def measure_idle(subject: Subject, duration_s: float) -> float:
    """Share of one core that the server uses when nobody asks anything."""
    before = subject.server.tree.cpu_s()
    time.sleep(duration_s)
    return (subject.server.tree.cpu_s() - before) / duration_s


def _percentiles_ms(load: Load) -> tuple[float, float, float]:
    latencies = load.latencies_s()
    if not len(latencies):
        return (float("nan"),) * 3
    p50, p95, p99 = (float(value) * 1000 for value in np.percentile(latencies, (50, 95, 99)))
    return p50, p95, p99


def _verdicts(load: Load) -> dict[str, int]:
    return dict(Counter(one.verdict for one in load.outcomes))
