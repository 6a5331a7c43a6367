"""Recurrences: the fast forms are the loops, at every length, and much faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.functional import delta_rule, sparse_scan
from osa.model.functional.delta_rule import Writes, invert_unit_lower, state_depth
from osa.model.functional.sparse_scan import Steps

LENGTHS = [1, 2, 15, 16, 17, 64, 65, 200]


def writes_of(length: int, width: int = 5, heads: int = 3, dtype: torch.dtype = torch.float64):  # type: ignore[no-untyped-def]
    shape = (2, heads, length)
    draw = torch.empty(2, *shape, dtype=dtype)
    keys = F.normalize(torch.randn(2, *shape, width, dtype=dtype), dim=-1)
    return Writes(
        torch.randn(*shape, width, dtype=dtype),
        keys,
        torch.randn(2, *shape, width, dtype=dtype),
        draw.uniform_(),
        -0.2 * torch.rand(shape, dtype=dtype),
    )


def steps_of(length: int, width: int = 5, heads: int = 3, dtype: torch.dtype = torch.float64):  # type: ignore[no-untyped-def]
    shape = (2, heads, length, width)
    size, angle = 0.95 * torch.rand(shape, dtype=dtype), 2 * math.pi * torch.rand(shape)
    offsets = torch.randn(2, *shape, dtype=dtype)
    return Steps(
        torch.randint(width, shape), size * angle.cos(), size * angle.sin(), offsets[0], offsets[1]
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_are_steps(length: int) -> None:
    writes = writes_of(length)
    truth = delta_rule.by_steps(writes)
    for depth in (None, state_depth(200)):
        found = delta_rule.by_chunks(writes, depth)
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_scans_are_steps(length: int) -> None:
    steps = steps_of(length)
    truth = sparse_scan.step_by_step(steps)
    for found in (sparse_scan.scan_states(steps), sparse_scan.scan_in_levels(steps, 200)):
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


def test_one_key_again_and_again_is_still_exact_in_float32() -> None:
    """Powers of the triangular matrix would be beyond 1e16 here."""
    writes = writes_of(500, 16, 1)
    writes = writes._replace(
        keys=writes.keys[:, :, :, :1].expand_as(writes.keys),
        rates=torch.ones_like(writes.rates),
        log_decay=torch.zeros_like(writes.log_decay),
    )
    found = delta_rule.by_chunks(Writes(*(part.float() for part in writes)))
    truth = delta_rule.by_steps(writes)
    assert float((found - truth).abs().max() / truth.abs().max()) < 1e-5


def test_triangular_inverse() -> None:
    strict = torch.randn(3, 16, 16, dtype=torch.float64).tril(-1)
    eye = torch.eye(16, dtype=torch.float64)
    found = invert_unit_lower(strict)
    torch.testing.assert_close(found @ (eye + strict), eye.expand(3, -1, -1))


@pytest.mark.parametrize("kind", ["chunks", "scan"])
def test_gradients_are_those_of_the_loops(kind: str) -> None:
    forms: tuple[Callable[..., Tensor], ...]
    if kind == "chunks":
        parts = list(writes_of(20))
        forms = (
            lambda *given: delta_rule.by_chunks(Writes(*given)),
            lambda *given: delta_rule.by_steps(Writes(*given)),
        )
    else:
        index, *parts = steps_of(20)
        forms = (
            lambda *given: torch.stack(sparse_scan.scan_states(Steps(index, *given))),
            lambda *given: torch.stack(sparse_scan.step_by_step(Steps(index, *given))),
        )
    leaves = [part.requires_grad_() for part in parts]
    weights = torch.randn_like(forms[0](*leaves))
    fast, slow = (torch.autograd.grad((form(*leaves) * weights).sum(), leaves) for form in forms)
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def cpu_seconds(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        function()
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.parametrize("kind", ["chunks", "scan"])
@torch.inference_mode()
def test_fast_forms_are_several_times_faster_than_loops(kind: str) -> None:
    """Ten times and more on a quiet machine, see ``benchmarks.encoder.mixers``."""
    if kind == "chunks":
        writes = writes_of(4096, 8, 2, torch.float32)
        fast, slow = (lambda: delta_rule.by_chunks(writes)), (lambda: delta_rule.by_steps(writes))
    else:
        steps = steps_of(4096, 8, 2, torch.float32)
        fast, slow = (
            (lambda: sparse_scan.scan_states(steps)),  # type: ignore[assignment, return-value]
            (lambda: sparse_scan.step_by_step(steps)),  # type: ignore[assignment, return-value]
        )
    assert cpu_seconds(slow, 1) > 5 * cpu_seconds(fast, 3)
