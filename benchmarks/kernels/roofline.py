"""Roofline: highest measured memory and compute rates, and the bytes and operations of a case.

Bytes: q, k, v read once and y written once, 4 N d numbers per head. Operations per sequence and
head, a multiply-add counted as two, with t the terms of the series for the largest angle:

    N > 2d   12 N d^2 + 8 t d^3     M^T M by its symmetry and M^T V, then t products of (2d x 2d)
                                    with (2d x d), then M W
    N <= 2d  (4 + 2 t) N^2 d        Q K^T, S V, then t products of (N x N) with (N x d)

These are counts of the algorithm, not of what a kernel executes. The memory rate is that of
``tensor.copy_`` (bytes read plus bytes written), the compute rate that of ``torch.mm`` of square
matrices in the operands' type; each is the highest of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from benchmarks.common.timing import Task, clock
from benchmarks.kernels.cases import DTYPES, Case
from osa.model.functional.attention import choose_regime
from osa.model.functional.phi1 import degree_for

COPY_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
ROUNDS = 3


def bytes_of(case: Case) -> int:
    """Fewest bytes that the operator reads and writes."""
    return 4 * case.tokens * case.heads * case.head_dim * DTYPES[case.dtype].itemsize


def operations_of(case: Case, angle: float) -> int:
    """Operations of the algorithm over all sequences and heads; ``angle`` [rad]."""
    terms, width = degree_for(angle, torch.float32), case.head_dim
    total = 0
    for length in case.lengths:
        if choose_regime(length, width) == "token":
            total += (4 + 2 * terms) * length**2 * width
        else:
            total += 12 * length * width**2 + 8 * terms * width**3
    return total * case.heads


class Roofline:
    """Highest rates so far; sampled before every case, since a shared machine has slow periods.

    Attributes:
        copy_rate: Copying a buffer, bytes read plus bytes written [1/s].
        product_rates: Operations of a square matrix product [1/s], by type.
    """

    def __init__(self, device: str, dtypes: Sequence[str]) -> None:
        """Allocate buffers on ``device`` and take the first samples."""
        self._clock, size = clock(device), PRODUCT_SIZE[device]
        self._source = torch.ones(COPY_BYTES[device], dtype=torch.uint8, device=device)
        self._target = torch.empty_like(self._source)
        self._matrices = {
            dtype: torch.randn(size, size, device=device).to(DTYPES[dtype]) for dtype in dtypes
        }
        self.copy_rate = 0.0
        self.product_rates = dict.fromkeys(dtypes, 0.0)
        self.sample()

    def sample(self) -> None:
        """Measure the rates again and keep the higher ones."""
        copy = Task(lambda: self._target.copy_(self._source))
        rate = 2 * self._source.nbytes / self._best(copy)
        self.copy_rate = max(self.copy_rate, rate)
        for dtype, matrix in self._matrices.items():
            rate = (
                2 * len(matrix) ** 3 / self._best(Task(functools.partial(torch.mm, matrix, matrix)))
            )
            self.product_rates[dtype] = max(self.product_rates[dtype], rate)

    def _best(self, task: Task) -> float:
        return min(self._clock(task).wall_s for _ in range(ROUNDS))
