"""Time of forward and backward pass together, and error of the gradients."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.common.machine import available_bytes
from benchmarks.common.timing import Run, Task, Timing, calls_for, clock, interleave, rounds_for
from benchmarks.kernels.cases import SCALE, Case, Operands, make_operands
from benchmarks.kernels.implementations import Implementation, attempt, refusal
from benchmarks.kernels.parity import operand_of, relative_error
from benchmarks.kernels.speed import TimingLimits
from osa.model.functional.attention import osa_gram

SHAPES = ((32, 32), (32, 128), (32, 512), (32, 2048), (64, 512), (64, 4096))
QUICK_SHAPES = ((32, 512),)
TOLERANCES = {"float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-2}
NAMES = ("osa", "sdpa-flash", "sdpa-efficient", "sdpa-cudnn")


@dataclass(frozen=True)
class Backward:
    """Times of one case by implementation: forward pass alone, and both passes."""

    case: Case
    forward: dict[str, Timing]
    both: dict[str, Timing]

    @property
    def peer(self) -> str | None:
        """The softmax attention of the shortest time for both passes; None if none ran."""
        peers = [name for name in self.both if name != "osa"]
        return min(peers, key=lambda name: self.both[name].wall_s, default=None)


def backward_cases(cases: Iterable[Case], quick: bool) -> list[Case]:
    """The cases whose gradients are checked and timed."""
    shapes = QUICK_SHAPES if quick else SHAPES
    return [c for c in cases if c.layout == "padded" and (c.head_dim, c.length) in shapes]


def _leaves(operands: Operands) -> Operands:
    """The operands as autograd leaves that require gradients, with the same memory layout."""
    parts = (*operands.states, operands.alpha)
    query, key, value, alpha = (part.detach().requires_grad_() for part in parts)
    return dataclasses.replace(operands, query=query, key=key, value=value, alpha=alpha)


@torch.no_grad()
def forward(implementation: Implementation, operands: Operands) -> Tensor:
    """The forward pass without autograd, padded [B, H, N, d] or packed [1, H, T, d]."""
    return implementation.compute(operands)


def _warm(run: Run, device: str) -> float:
    """Time of the second call [s]."""
    run()
    return clock(device)(Task(run)).wall_s


def gradients(
    implementation: Implementation, operands: Operands, grad: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of query, key and value [B, H, N, d]; for ``osa`` also of alpha [H]."""
    leaves = [*operands.states] if implementation.is_peer else [*operands.states, operands.alpha]
    return torch.autograd.grad(implementation.compute(operands), leaves, grad)


def gradient_error(implementation: Implementation, case: Case, device: str) -> float:
    """Largest relative error of the three gradients, for the last sequence and head."""
    operands = _leaves(make_operands(case, device))
    grad = torch.randn_like(operands.query)
    found = gradients(implementation, operands, grad)[:3]
    row, head = len(operands.lengths) - 1, case.heads - 1
    query, key, value, alpha = (part.detach() for part in operand_of(operands, row, head))
    leaves = [part.requires_grad_() for part in (query, key, value)]
    output = osa_gram(query, key, value, alpha, scale=SCALE)
    references = torch.autograd.grad(output, leaves, operands.sequence_of(grad, row, head).double())
    errors = [
        relative_error(operands.sequence_of(part, row, head), reference)
        for part, reference in zip(found, references, strict=True)
    ]
    return float(torch.stack(errors).max())


def measure_backward(
    case: Case, implementations: Sequence[Implementation], device: str, limits: TimingLimits
) -> Backward:
    """Time the forward pass without gradients and both passes, interleaved.

    Args:
        case: The case.
        implementations: Those named in ``NAMES`` are timed.
        device: ``cpu`` or ``cuda``.
        limits: Rounds and time limit.
    """
    operands = _leaves(make_operands(case, device))
    grad = torch.randn_like(operands.query)
    tasks: dict[str, Task] = {}
    round_s = 0.0
    for part in implementations:
        reason = refusal(part, case, device, available_bytes(device))
        if part.name not in NAMES or reason is not None:
            continue
        runs: dict[str, Run] = {
            f"both {part.name}": functools.partial(gradients, part, operands, grad),
            f"forward {part.name}": functools.partial(forward, part, operands),
        }
        singles = {
            name: attempt(part, functools.partial(_warm, run, device)) for name, run in runs.items()
        }
        for name, single in singles.items():
            if isinstance(single, float) and isinstance(singles[f"both {part.name}"], float):
                run, calls = runs[name], calls_for(single, device)
                tasks[name] = Task(run, part.context, calls, before=run)
                round_s += 2 * single
    rounds = rounds_for(round_s, limits.repeats, limits.budget_s)
    times = interleave(tasks, rounds, clock(device))
    split: dict[str, dict[str, Timing]] = {"forward": {}, "both": {}}
    for name, timing in times.items():
        kind, implementation = name.split(" ")
        split[kind][implementation] = timing
    return Backward(case, split["forward"], split["both"])
