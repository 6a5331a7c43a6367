"""What the hardware allows, measured in the same run, and what a case asks of it.

Bytes: q, k, v read once and y written once, 4 N d numbers a head. Operations a sequence and head,
multiply and add counted as two, with t the series' terms that the case's largest angle needs:

    N > 2d   12 N d^2 + 8 t d^3     M^T M by its symmetry and M^T V, then t products of (2d x 2d)
                                    with (2d x d), then M W
    N <= 2d  (4 + 2 t) N^2 d        Q K^T, S V, then t products of (N x N) with (N x d)

They are those of the algorithm, whatever a kernel really does. Ceilings: ``tensor.copy_`` of a
buffer, bytes read and written; ``torch.mm`` of square matrices in the operands' type; the best
that was seen during the run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from benchmarks.kernels.cases import DTYPES, Case
from benchmarks.kernels.measure import Task, clock
from osa.model.functional.attention import choose_regime
from osa.model.functional.phi1 import degree_for

COPY_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
ROUNDS = 3


def bytes_of(case: Case) -> int:
    """Least bytes that the operator moves."""
    return 4 * case.tokens * case.heads * case.head_dim * DTYPES[case.dtype].itemsize


def operations_of(case: Case, angle: float) -> int:
    """Operations of the algorithm for all sequences and heads; ``angle`` is in radians."""
    terms, width = degree_for(angle, torch.float32), case.head_dim
    total = 0
    for length in case.lengths:
        if choose_regime(length, width) == "token":
            total += (4 + 2 * terms) * length**2 * width
        else:
            total += 12 * length * width**2 + 8 * terms * width**3
    return total * case.heads


class Ceilings:
    """Best rates so far; sampled again before every case, for a shared machine has slow moments.

    Attributes:
        copy_rate: Bytes a second, read and written, of copying a buffer.
        product_rates: Operations a second of a square matrix product, by type.
    """

    def __init__(self, device: str, dtypes: Sequence[str]) -> None:
        """Allocate the buffers and take the first samples."""
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
        """Measure again and keep what is better."""
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
