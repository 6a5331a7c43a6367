"""A document over HTTP: memory of the server, its CPU time and the size of the answer.

``/embed`` gives one vector, ``/embed_chunks`` one for each 256 tokens, both as lines (NDJSON).
"""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import psutil

from benchmarks.common.memory import forget_peak, memory_mb
from benchmarks.common.report import progress
from benchmarks.streaming.serving import Served, server, text_of

ROUTES: dict[str, dict[str, Any]] = {
    "/embed": {},
    "/embed_chunks": {"chunking": {"size": 256}},
}
SHORT, TEXTS = 1000, 20
"""Words of the texts that are compared with, and how many are one measurement."""


def cpu_s(served: Served) -> float:
    """CPU time of a server so far [s]."""
    times = psutil.Process(served.process).cpu_times()
    return float(times.user + times.system)


def send(served: Served, route: str, text: str) -> tuple[int, int]:
    """Send a text; bytes of the answer, and vectors of chunks in it."""
    headers = {"accept": "application/x-ndjson"}
    body = {"inputs": text, **ROUTES[route]}
    size = chunks = 0
    with served.client.stream("POST", route, json=body, headers=headers) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            size += len(line) + 1
            found = json.loads(line)
            if "error" in found:
                raise httpx.HTTPError(found["error"])
            if "progress" in found:
                progress(f"{route}: {found['progress']:.1%}")
            chunks += len(found.get("chunks", ()))
    return size, chunks


def measure(tokens: int, route: str, *settings: str) -> dict[str, Any]:
    """One document over one route, in a server of its own.

    Args:
        tokens: Of the document, about.
        route: One of ``ROUTES``.
        settings: Of the server.
    """
    generator = random.Random(0)
    text = text_of(tokens, generator)
    short = [text_of(SHORT, generator) for _ in range(TEXTS + 1)]
    with server("cache.max_bytes=0", *settings) as served:
        send(served, route, short[-1])
        began = cpu_s(served)
        for one in short[:TEXTS]:
            send(served, route, one)
        short_cpu = (cpu_s(served) - began) / (SHORT * TEXTS)
        idle = memory_mb("VmRSS", served.process)
        forget_peak(served.process)
        began = cpu_s(served)
        size, chunks = send(served, route, text)
        return {
            "route": route,
            "tokens": tokens,
            "idle_mb": idle,
            "above_mb": memory_mb("VmHWM", served.process) - idle,
            "cpu_s": (cpu_s(served) - began) / tokens,
            "short_cpu_s": short_cpu,
            "answer_bytes": size,
            "chunks": chunks,
        }
