"""Latency of short requests beside a long document, in one server; rounds with and without.

Every round measures short requests alone, then the same while a document is read and tokenised,
then while it is computed in turns, so that whatever else the machine does meets all.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from benchmarks.common.report import progress
from benchmarks.streaming.serving import server, text_of

PAUSE_S = 0.01
"""Between two short requests [s]."""
FEWEST = 20
"""Requests of which a p99 is said."""


class Latencies(NamedTuple):
    """Of short requests [s].

    Attributes:
        median: Half take no longer.
        p99: 99 of 100 take no longer.
        requests: How many there were.
    """

    median: float
    p99: float
    requests: int


class Round(NamedTuple):
    """Latencies of one round.

    Attributes:
        alone: With nothing beside.
        reading: While a document was read and tokenised; None where that took no time.
        computing: While it was computed.
    """

    alone: Latencies
    reading: Latencies | None
    computing: Latencies


class LongRequest:
    """A document on its way through a server; given up when the block ends."""

    def __init__(self, client: httpx.Client, body: str) -> None:
        """Send it with the block."""
        self._client, self._body = client, body
        self.queued, self.done = threading.Event(), threading.Event()
        self._left = threading.Event()
        self.status = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> LongRequest:
        """Send it."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it up."""
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        headers = {"content-type": "application/json", "accept": "application/x-ndjson"}
        url = self._client.base_url.join("/embed")
        with httpx.stream("POST", url, content=self._body, headers=headers, timeout=None) as answer:
            self.queued.set()
            self.status = answer.status_code
            for line in answer.iter_lines():  # one a second
                if "progress" not in json.loads(line):
                    self.done.set()
                if self._left.is_set():
                    return


def latencies(
    client: httpx.Client, count: int, generator: random.Random, until: Callable[[], bool]
) -> list[float]:
    """Latency of requests one after the other [s].

    Args:
        client: Of the server.
        count: Most requests.
        generator: Of the texts.
        until: Ends them.
    """
    found: list[float] = []
    while len(found) < count and not until():
        body = {"inputs": text_of(24, generator)}
        began = time.perf_counter()
        client.post("/embed", json=body).raise_for_status()
        found.append(time.perf_counter() - began)
        time.sleep(PAUSE_S)
    return found


def summary(seconds: list[float]) -> Latencies:
    """Median and p99."""
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98]
    return Latencies(statistics.median(seconds), p99, len(seconds))


def measure(tokens: int, rounds: int, count: int, keep: Callable[[Round], None]) -> None:
    """Latencies alone and beside a document, round by round.

    Args:
        tokens: Of the document, about; it is given up once a round is over.
        rounds: How many.
        count: Short requests of each measurement.
        keep: Called with each round.

    Raises:
        RuntimeError: The document was done before the short requests.
    """
    generator = random.Random(0)
    document = json.dumps({"inputs": text_of(tokens, generator)})
    with server() as (client, _):
        latencies(client, count, generator, lambda: False)
        for turn in range(rounds):
            alone = summary(latencies(client, count, generator, lambda: False))
            with LongRequest(client, document) as long:
                read = latencies(client, 100 * count, generator, long.queued.is_set)
                reading = summary(read) if len(read) >= FEWEST else None
                found = latencies(client, count, generator, long.done.is_set)
                if long.done.is_set() or long.status != httpx.codes.OK:
                    raise RuntimeError(
                        f"the document was done too early ({long.status}): take a longer one"
                    )
            computing = summary(found)
            keep(Round(alone, reading, computing))
            progress(
                f"round {turn}: p99 {alone.p99 * 1e3:.1f} ms alone, "
                f"{reading.p99 * 1e3 if reading else 0:.1f} while it is read, "
                f"{computing.p99 * 1e3:.1f} while it is computed"
            )
