"""Time of the forward pass of every implementation, in warm and cold memory."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.common.machine import available_bytes
from benchmarks.common.timing import Run, Task, Timing, calls_for, clock, interleave, rounds_for
from benchmarks.kernels.allocator import free_memory_trimmer
from benchmarks.kernels.cases import Case, Operands, make_operands
from benchmarks.kernels.implementations import Implementation, attempt, refusal

COLD = "cold"


@dataclass(frozen=True)
class TimingLimits:
    """Limits on the duration of the measurements.

    Attributes:
        repeats: Rounds of a case.
        limit_s: An implementation whose single call takes longer is left out [s].
        budget_s: Time for the rounds of a case [s]; at least three rounds run.
    """

    repeats: int = 9
    limit_s: float = 20.0
    budget_s: float = 20.0


@dataclass(frozen=True)
class Speed:
    """Times of one case by implementation, and why the others have none."""

    case: Case
    warm: Mapping[str, Timing]
    cold: Mapping[str, Timing] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def peer(self) -> str | None:
        """The fastest softmax attention in warm memory; None if none ran."""
        return best_peer(self.warm)

    def ratio(self, name: str | None, times: Mapping[str, Timing], cpu: bool = False) -> float:
        """Median time of an implementation over that of ``osa``; NaN if either is missing."""
        if name is None or name not in times or "osa" not in times:
            return float("nan")
        own, other = times["osa"], times[name]
        return other.cpu_s / own.cpu_s if cpu else other.wall_s / own.wall_s

    def per_token(self, name: str, times: Mapping[str, Timing]) -> float:
        """Median wall time per token [s]; NaN if it was not measured."""
        return times[name].wall_s / self.case.tokens if name in times else float("nan")


def best_peer(times: Mapping[str, Timing]) -> str | None:
    """The softmax attention of the shortest median wall time; None if there is none."""
    return fastest_peer({name: timing.wall_s for name, timing in times.items()})


def fastest_peer(seconds: Mapping[str, float]) -> str | None:
    """The softmax attention of the shortest time; None if there is none."""
    peers = [name for name in seconds if name.startswith("sdpa")]
    return min(peers, key=lambda name: seconds[name], default=None)


def probe(
    implementation: Implementation, operands: Operands, case: Case, device: str, limit_s: float
) -> float | str:
    """Time of a single warm call [s], or why this implementation is left out.

    Args:
        implementation: What is called.
        operands: The operands of ``case``.
        case: The case.
        device: ``cpu`` or ``cuda``.
        limit_s: Longest time of a call [s].
    """
    reason = refusal(implementation, case, device, available_bytes(device))
    if reason is not None:
        return reason
    task = Task(functools.partial(implementation.compute, operands), implementation.context)
    # The first call also compiles and fills caches; on a CPU it still is an upper bound.
    found = attempt(implementation, lambda: clock(device)(task).wall_s)
    if isinstance(found, float) and (device == "cuda" or found <= limit_s):
        found = attempt(implementation, lambda: clock(device)(task).wall_s)
    if isinstance(found, float) and found > limit_s:
        return f"{found:.0f} s per call, over {limit_s:g} s"
    return found


def twice(run: Run) -> Run:
    """A function of two calls, which warm up both blocks that the allocator alternates between."""

    def warm_up() -> None:
        run()
        run()

    return warm_up


@torch.inference_mode()
def measure_speed(
    case: Case, implementations: Sequence[Implementation], device: str, limits: TimingLimits
) -> Speed:
    """Time a case in warm memory; on the CPU, the most important implementations also in cold.

    Those are ``osa``, ``osa_gram`` and the fastest softmax attention.

    Args:
        case: The case.
        implementations: What is timed.
        device: ``cpu`` or ``cuda``.
        limits: Rounds and time limits.
    """
    operands = make_operands(case, device)
    by_name = {part.name: part for part in implementations}
    probed = {
        name: probe(part, operands, case, device, limits.limit_s) for name, part in by_name.items()
    }
    singles = {name: found for name, found in probed.items() if isinstance(found, float)}
    refused = {name: found for name, found in probed.items() if isinstance(found, str)}

    trim = free_memory_trimmer() if device == "cpu" else None
    wanted = ("osa", "osa_gram", fastest_peer(singles)) if trim else ()
    tasks: dict[str, Task] = {}
    round_s = 0.0
    for name, single in singles.items():
        run, context = functools.partial(by_name[name].compute, operands), by_name[name].context
        tasks[name] = Task(run, context, calls_for(single, device), before=twice(run))
        round_s += 3 * single
        if name in wanted:
            tasks[f"{name} {COLD}"] = Task(run, context, before=trim)
            round_s += single
    times = interleave(tasks, rounds_for(round_s, limits.repeats, limits.budget_s), clock(device))
    cold = {name: times[f"{name} {COLD}"] for name in singles if f"{name} {COLD}" in times}
    return Speed(case, {name: times[name] for name in singles}, cold, refused)
