"""What batches cost the real engine, measured by CPU time, so a busy machine matters little."""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.replicas.pods import EngineCost
from osa.service.batching.item import WorkItem
from osa.service.engines.base import Engine
from osa.service.engines.selection import select_engine
from osa.service.settings import load_settings

LARGE, SMALL = [400] * 16, [16]
"""Batches that are measured: lengths [tokens]."""


def measure(rounds: int, cores: float) -> tuple[EngineCost, str]:
    """The cost of a batch of the packaged model on so many cores.

    Args:
        rounds: How often each batch is computed; medians are taken.
        cores: Of a pod; CPU time is divided among them.

    Returns:
        The cost, and a line that says what was measured.
    """
    settings = load_settings({}, environment={})
    selection = select_engine(settings.served()[0])
    engine = selection.engine
    engine.warm_up()
    taken: dict[int, list[float]] = {len(LARGE): [], len(SMALL): []}
    for _ in range(rounds):
        for lengths in (LARGE, SMALL):
            taken[len(lengths)].append(_cpu_s(engine, lengths))
    large, small = (statistics.median(taken[len(lengths)]) for lengths in (LARGE, SMALL))
    token_s = (large - small) / (sum(LARGE) - sum(SMALL))
    batch_s = max(0.0, small - token_s * sum(SMALL))
    info = engine.info
    said = (
        f"{info.backend}, {info.kernel}, {info.dtype}: {1 / token_s:.0f} tokens per CPU-second and "
        f"{1e3 * batch_s:.2f} ms of CPU time a batch (medians of {rounds})"
    )
    return EngineCost(batch_s / cores, token_s / cores), said


def _cpu_s(engine: Engine, lengths: list[int]) -> float:
    generator = np.random.default_rng(0)
    items = [WorkItem(generator.integers(5, 1000, length).tolist()) for length in lengths]
    begun = time.process_time()
    engine.embed([item.ids for item in items])
    return time.process_time() - begun
