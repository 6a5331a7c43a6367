"""Forward speed of every contender of a case, warm and cold."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.kernels.cases import Case, Operands, make_operands
from benchmarks.kernels.contenders import Contender, attempt, refusal
from benchmarks.kernels.machine import free_bytes
from benchmarks.kernels.measure import (
    Run,
    Task,
    Timing,
    calls_for,
    clock,
    free_memory_trimmer,
    interleave,
    rounds_for,
)

COLD = "cold"


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        repeats: Rounds of a case.
        limit_s: A contender whose single run takes longer is left out.
        budget_s: Rounds of one table and case stop here, though not before the third.
    """

    repeats: int = 9
    limit_s: float = 20.0
    budget_s: float = 20.0


@dataclass(frozen=True)
class Speed:
    """Times of one case, by contender, and why the others have none."""

    case: Case
    warm: Mapping[str, Timing]
    cold: Mapping[str, Timing] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def peer(self) -> str | None:
        """The fastest softmax attention; None where none ran."""
        return best_peer(self.warm)

    def ratio(self, name: str | None, times: Mapping[str, Timing], cpu: bool = False) -> float:
        """Median time of a contender over that of osa; NaN where either is missing."""
        if name is None or name not in times or "osa" not in times:
            return float("nan")
        own, other = times["osa"], times[name]
        return other.cpu_s / own.cpu_s if cpu else other.wall_s / own.wall_s

    def per_token(self, name: str, times: Mapping[str, Timing]) -> float:
        """Median wall time a token [s]; NaN where it was not measured."""
        return times[name].wall_s / self.case.tokens if name in times else float("nan")


def best_peer(times: Mapping[str, Timing]) -> str | None:
    """The fastest softmax attention of these times."""
    return quickest_peer({name: timing.wall_s for name, timing in times.items()})


def quickest_peer(seconds: Mapping[str, float]) -> str | None:
    """The softmax attention of the least time; None where there is none."""
    peers = [name for name in seconds if name.startswith("sdpa")]
    return min(peers, key=lambda name: seconds[name], default=None)


def probe(
    contender: Contender, operands: Operands, case: Case, device: str, limit_s: float
) -> float | str:
    """Time of a single warm run [s], or why this contender is left out."""
    reason = refusal(contender, case, device, free_bytes(device))
    if reason is not None:
        return reason
    task = Task(functools.partial(contender.compute, operands), contender.context)
    # The first call also compiles and fills caches; on a processor it is a bound all the same.
    found = attempt(contender, lambda: clock(device)(task).wall_s)
    if isinstance(found, float) and (device == "cuda" or found <= limit_s):
        found = attempt(contender, lambda: clock(device)(task).wall_s)
    if isinstance(found, float) and found > limit_s:
        return f"{found:.0f} s a run, over {limit_s:g} s"
    return found


def twice(run: Run) -> Run:
    """Calls that warm memory up: results of both places that the allocator alternates between."""

    def warm_up() -> None:
        run()
        run()

    return warm_up


@torch.inference_mode()
def measure_speed(
    case: Case, contenders: Sequence[Contender], device: str, effort: Effort
) -> Speed:
    """Time a case; ``cold`` covers osa, osa_gram and the best softmax attention, on CPU."""
    operands = make_operands(case, device)
    by_name = {part.name: part for part in contenders}
    probed = {
        name: probe(part, operands, case, device, effort.limit_s) for name, part in by_name.items()
    }
    singles = {name: found for name, found in probed.items() if isinstance(found, float)}
    refused = {name: found for name, found in probed.items() if isinstance(found, str)}

    trim = free_memory_trimmer() if device == "cpu" else None
    wanted = ("osa", "osa_gram", quickest_peer(singles)) if trim else ()
    tasks: dict[str, Task] = {}
    round_s = 0.0
    for name, single in singles.items():
        run, context = functools.partial(by_name[name].compute, operands), by_name[name].context
        tasks[name] = Task(run, context, calls_for(single, device), before=twice(run))
        round_s += 3 * single
        if name in wanted:
            tasks[f"{name} {COLD}"] = Task(run, context, before=trim)
            round_s += single
    times = interleave(tasks, rounds_for(round_s, effort.repeats, effort.budget_s), clock(device))
    cold = {name: times[f"{name} {COLD}"] for name in singles if f"{name} {COLD}" in times}
    return Speed(case, {name: times[name] for name in singles}, cold, refused)
