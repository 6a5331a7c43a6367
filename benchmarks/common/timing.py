"""Timing: interleaved rounds, medians of wall time and CPU time.

In a round every task runs once, and the order rotates from round to round, so that a slow period
of a shared machine affects all tasks alike.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Run = Callable[[], object]
GPU_SAMPLE_S = 2e-3
"""Shortest sample on a GPU: calls are queued back to back, so that launches overlap."""


@dataclass(frozen=True)
class Sample:
    """One call: wall time [s], CPU time over all threads [s], page faults."""

    wall_s: float
    cpu_s: float
    faults: float


@dataclass(frozen=True)
class Timing:
    """Medians of the samples; ``spread`` is interquartile range over median of the wall time."""

    wall_s: float
    cpu_s: float
    faults: float
    spread: float
    samples: int


@dataclass(frozen=True)
class Task:
    """A call to time.

    Attributes:
        run: The timed call.
        context: Context manager around each sample; entering it is not timed.
        calls: Calls in one sample.
        before: Called before every sample, not timed.
    """

    run: Run
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    calls: int = 1
    before: Run | None = None


def clock_cpu(task: Task) -> Sample:
    """Time one sample on the CPU."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(task.calls):
        result = task.run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    del result  # freed after the clock has stopped
    return Sample(wall / task.calls, cpu / task.calls, faults / task.calls)


def clock_cuda(task: Task) -> Sample:
    """Time one sample on the GPU by CUDA events; CPU time is that of the launches."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    cpu = time.process_time()
    start.record()
    for _ in range(task.calls):
        task.run()
    stop.record()
    cpu = time.process_time() - cpu
    torch.cuda.synchronize()
    return Sample(start.elapsed_time(stop) / 1e3 / task.calls, cpu / task.calls, 0.0)


def clock(device: str) -> Callable[[Task], Sample]:
    """The timing function of a device: ``cpu`` or ``cuda``."""
    return clock_cuda if device == "cuda" else clock_cpu


def calls_for(single_s: float, device: str) -> int:
    """Calls in one sample: one on a CPU; on a GPU, enough to last ``GPU_SAMPLE_S``."""
    if device != "cuda":
        return 1
    return max(1, min(50, round(GPU_SAMPLE_S / max(single_s, 1e-6))))


def rotated(keys: Sequence[Key], turn: int) -> list[Key]:
    """The keys in the order of round ``turn``."""
    turn %= max(len(keys), 1)
    return [*keys[turn:], *keys[:turn]]


def rounds_for(round_s: float, repeats: int, budget_s: float) -> int:
    """Rounds to run: ``repeats``, or as many as fit into the time budget, but at least 3."""
    return max(min(3, repeats), min(repeats, int(budget_s / max(round_s, 1e-9))))


def summarize(samples: Sequence[Sample]) -> Timing:
    """Medians and relative spread of the samples."""
    walls = [sample.wall_s for sample in samples]
    middle = statistics.median(walls)
    low, _, high = statistics.quantiles(walls, n=4) if len(walls) > 1 else (middle,) * 3
    return Timing(
        middle,
        statistics.median(sample.cpu_s for sample in samples),
        statistics.median(sample.faults for sample in samples),
        (high - low) / middle if middle else 0.0,
        len(samples),
    )


def interleave(
    tasks: Mapping[Key, Task], rounds: int, measure: Callable[[Task], Sample]
) -> dict[Key, Timing]:
    """Time every task over interleaved rounds; returns the medians.

    Args:
        tasks: The tasks by key.
        rounds: Samples of each task.
        measure: Timing function of the device, from ``clock``.
    """
    samples: dict[Key, list[Sample]] = {key: [] for key in tasks}
    for turn in range(rounds):
        for key in rotated(list(tasks), turn):
            task = tasks[key]
            with task.context():
                if task.before is not None:
                    task.before()
                samples[key].append(measure(task))
    return {key: summarize(found) for key, found in samples.items()}


def median_cpu_s(
    runs: Mapping[Key, Run], rounds: int, say: Callable[[str], None] | None = None
) -> dict[Key, float]:
    """Median CPU time of every call over interleaved rounds [s], after one warm-up call each.

    Args:
        runs: Calls by key.
        rounds: Samples of each.
        say: Is told what each of the first calls took.
    """
    tasks = {key: Task(run) for key, run in runs.items()}
    for key, task in tasks.items():
        first = clock_cpu(task)
        if say is not None:
            say(f"{key}: {first.wall_s:.2f} s")
    return {key: timing.cpu_s for key, timing in interleave(tasks, rounds, clock_cpu).items()}
