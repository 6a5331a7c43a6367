"""Timing: interleaved rounds, medians of wall and CPU time, warm and cold memory.

In a round every contender runs once, and the order turns by one from round to round, so a slow
moment of a shared machine falls on all alike. A ``warm`` call follows two of the same contender
that are not timed: allocator and caches are as in repeated calls, and freed memory stays in the
process whatever its size (glibc would map and fault results over 32 MiB anew each time; two, for
an aligned block does not fit where the last one was, so results alternate between two places). A
``cold`` call finds no free memory in the process: it was handed back to the system (glibc's
``malloc_trim``), so fresh buffers page-fault.
"""

from __future__ import annotations

import ctypes
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

Run = Callable[[], object]
GPU_SAMPLE_S = 2e-3
"""On a GPU one sample is this long or longer: calls back to back, so that launches overlap."""


@dataclass(frozen=True)
class Sample:
    """One call: wall time, CPU time over all threads [s], and page faults."""

    wall_s: float
    cpu_s: float
    faults: float


@dataclass(frozen=True)
class Timing:
    """Medians of the samples; ``spread`` is their interquartile range by the median wall time."""

    wall_s: float
    cpu_s: float
    faults: float
    spread: float
    samples: int


@dataclass(frozen=True)
class Task:
    """Something to time.

    Attributes:
        run: What is timed.
        context: Entered around it, outside the clock.
        calls: How often it runs in one sample.
        before: Called before every sample, outside the clock.
    """

    run: Run
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    calls: int = 1
    before: Run | None = None


def clock_cpu(task: Task) -> Sample:
    """Time calls on the processor."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(task.calls):
        result = task.run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    del result  # handed back outside the clock, for every contender alike
    return Sample(wall / task.calls, cpu / task.calls, faults / task.calls)


def clock_cuda(task: Task) -> Sample:
    """Time calls on the GPU by events; CPU time is that of launching."""
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
    """The clock of a device."""
    return clock_cuda if device == "cuda" else clock_cpu


def calls_for(single_s: float, device: str) -> int:
    """Calls of one sample: one on a processor, on a GPU enough of them."""
    if device != "cuda":
        return 1
    return max(1, min(50, round(GPU_SAMPLE_S / max(single_s, 1e-6))))


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """From now on this process hands nothing back by itself; without glibc nothing changes."""
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    set_option(M_MMAP_MAX, 0)
    set_option(M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory_trimmer() -> Callable[[], None] | None:
    """What hands free memory back to the system; None where the C library cannot."""
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None

    def release() -> None:
        trim(0)

    return release


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The names in the order of round ``turn``."""
    turn %= max(len(names), 1)
    return [*names[turn:], *names[:turn]]


def rounds_for(round_s: float, repeats: int, budget_s: float) -> int:
    """Rounds to run: ``repeats``, fewer where they would pass the budget, but at least 3."""
    return max(min(3, repeats), min(repeats, int(budget_s / max(round_s, 1e-9))))


def summarize(samples: Sequence[Sample]) -> Timing:
    """Medians and spread."""
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
    tasks: Mapping[str, Task],
    rounds: int,
    measure: Callable[[Task], Sample],
) -> dict[str, Timing]:
    """Medians of every task over interleaved rounds.

    Args:
        tasks: What to time, by name.
        rounds: How often each one runs.
        measure: The clock.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in tasks}
    for turn in range(rounds):
        for name in rotated(list(tasks), turn):
            task = tasks[name]
            with task.context():
                if task.before is not None:
                    task.before()
                samples[name].append(measure(task))
    return {name: summarize(found) for name, found in samples.items()}
